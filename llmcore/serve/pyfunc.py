"""What MLflow runs to load a registered model: a copy of this file lies with the model, and nothing imports it."""

from mlflow.models import ModelConfig, set_model

from llmcore.serve.served import SERVED

set_model(SERVED[ModelConfig().get("kind")]())  # type: ignore[no-untyped-call]
