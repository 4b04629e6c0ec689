"""Continue prompts: `stream` yields tokens as they are chosen, `decode` collects them. Ids in, ids out."""

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from llmcore.config.generation import GenerationConfig
from llmcore.generate.beam import beam_search
from llmcore.generate.decoder import Decoder, FinishReason, NewToken
from llmcore.model.transformer import LanguageModel


class Completion(NamedTuple):
    """All tokens of a continuation, the stop token that ended it included."""

    tokens: list[NewToken]

    @property
    def finish_reason(self) -> FinishReason:
        reason = self.tokens[-1].finish_reason
        assert reason is not None
        return reason

    @property
    def ids(self) -> list[int]:
        """What the text is made of: without the stop token."""
        return [new.token for new in self.tokens if new.finish_reason != "stop"]


def stream(
    model: LanguageModel, prompts: Sequence[Sequence[int]], config: GenerationConfig, *, stop_ids: Collection[int]
) -> Iterator[NewToken]:
    """Continue all prompts together and yield each token as it is chosen.

    The key of a token is the number of its continuation: `config.n` of them for each prompt, in the order of the
    prompts. The draws of each depend on its number and the seed, and not on its neighbours. A continuation ends with
    one of `stop_ids`, after `max_new_tokens`, or where the model's context is full. Beams are yielded when they have
    ended. UserError for a prompt that is empty or leaves no room in the context, and for logits that are not finite.
    """
    if config.num_beams > 1:
        for number, prompt in enumerate(prompts):
            for tokens in beam_search(model, prompt, config, stop_ids=stop_ids, first_key=number * config.n):
                yield from tokens
        return
    decoder = started(model, prompts, config, stop_ids=stop_ids)
    while decoder.busy:
        yield from decoder.step()


def started(
    model: LanguageModel, prompts: Sequence[Sequence[int]], config: GenerationConfig, *, stop_ids: Collection[int]
) -> Decoder:
    """Return a decoder in which all continuations of `stream` wait, beams apart."""
    decoder = Decoder(model, max_rows=config.n * len(prompts))
    for number in sorted(range(len(prompts)), key=lambda number: len(prompts[number])):  # alike ones are read together
        place = number * config.n
        decoder.add(range(place, place + config.n), prompts[number], config, stop_ids=stop_ids, place=place)
    return decoder


def decode(
    model: LanguageModel, prompts: Sequence[Sequence[int]], config: GenerationConfig, *, stop_ids: Collection[int]
) -> list[Completion]:
    """Return the continuations that `stream` yields, by their number."""
    found: list[Completion] = [Completion([]) for _ in range(config.n * len(prompts))]
    for new in stream(model, prompts, config, stop_ids=stop_ids):
        assert isinstance(new.key, int)
        found[new.key].tokens.append(new)
    return found
