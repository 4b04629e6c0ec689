from llmcore.process import prepare

prepare()  # before torch is loaded
