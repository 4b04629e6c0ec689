from llmcore.process import prepare

prepare()  # before any stage loads torch
