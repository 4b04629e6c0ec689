"""A chat of several turns with an instruct model, in its own template."""

from collections.abc import Iterator

from llmcore.base.errors import UserError
from llmcore.config.generation import GenerationConfig
from llmcore.generate.decoder import Decoder, FinishReason, check_ids
from llmcore.generate.text_stream import TextStream
from llmcore.generate.write import chat_prompt, fit_chat, text_piece
from llmcore.model.transformer import LanguageModel
from llmcore.tokenizer.chat import Message
from llmcore.tokenizer.tokenizer import Tokenizer


class Chat:
    """The messages so far, and the keys and values of what the model has read of them.

    `dropped` is the number of messages that the last answer was written without, `finish_reason` why it ended; None
    where it was interrupted. UserError for settings with ids that are not in the vocabulary.
    """

    def __init__(self, model: LanguageModel, tokenizer: Tokenizer, form: str, config: GenerationConfig):
        check_ids(model, config)
        self.config = config
        self.messages: list[Message] = []
        self.dropped = 0
        self.finish_reason: FinishReason | None = None
        self._model = model
        self._tokenizer = tokenizer
        self._form = form
        self._decoder = Decoder(model, max_rows=1, kept_prefixes=1)

    def say(self, content: str) -> Iterator[str]:
        """Yield the answer to a message as it is written.

        The oldest messages are left out where the chat does not fit into the context. UserError, the message being
        forgotten, if it is empty or too long alone, or the model fails. What an iteration that ends early has yielded
        counts as the answer; a message without any answer is forgotten, too.
        """
        if not content.strip():
            raise UserError("message: must not be empty; say something")
        asked: list[Message] = [*self.messages, {"role": "user", "content": content}]
        model, tokenizer, form = self._model, self._tokenizer, self._form
        kept, self.dropped = fit_chat(model, tokenizer, form, asked, self.config.max_new_tokens)
        self.finish_reason = None
        [prompt], stop_ids = chat_prompt(tokenizer, form, kept)
        text, answer = TextStream(tokenizer, prompt, self.config.stop), ""
        self._decoder.add(["answer"], prompt, self.config, stop_ids=stop_ids)
        try:
            while self._decoder.busy:
                for new in self._decoder.step():
                    if text.stopped:
                        break  # guessed ahead
                    piece = text_piece(text, new)
                    self.finish_reason = piece.finish_reason
                    answer += piece.text
                    yield piece.text
                if text.stopped:
                    self._decoder.remove("answer")
        except UserError:
            answer = ""
            raise
        finally:
            self._decoder.remove("answer")
            if answer.strip() or self.finish_reason:
                self.messages = [*asked, {"role": "assistant", "content": answer.strip()}]

    def reset(self) -> None:
        """Forget all messages."""
        self.messages = []
