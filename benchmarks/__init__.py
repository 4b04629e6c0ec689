from llmcore.base.process import prepare

prepare()  # before torch is loaded
