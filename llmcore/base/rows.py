"""Rows that travel between stages, as their JSONL and CSV files hold them."""

from typing import NotRequired, TypedDict


class LabelledRow(TypedDict):
    """data/spam/{train,val,test}.jsonl"""

    text: str
    label: str
    p_spam: NotRequired[float]  # the built-in world knows the probability that a message is spam


class InstructionRow(TypedDict):
    """data/instructions/{train,val,test}.jsonl"""

    instruction: str
    input: str
    output: str
    kind: NotRequired[str]
    checkable: NotRequired[bool]  # its answer is either right or wrong


class AnswerRow(InstructionRow):
    """reports/evaluate_instruct/tables/answers.jsonl"""

    answer: str
    correct: bool
    token_f1: float
    rouge_l: float
    log_likelihood: float  # of the expected output, in nats
    ended: bool  # the model stopped by itself
    words: int
    judge_reply: NotRequired[str]
    judge_score: NotRequired[int | None]
