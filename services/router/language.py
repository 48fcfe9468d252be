"""The model's text, in and out: what common/text offers, for requests."""

from common.core.errors import Unsupported
from common.core.ids import TokenId
from common.text.chat import ChatTemplate
from common.text.choice import ChoiceText
from common.text.conversation import Conversation
from common.text.habits import Habits
from common.text.tokenizer import Tokenizer
from services.router.request import Request


class Language:
    """Immutable and thread-safe: long inputs are read off the event loop."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._template = ChatTemplate(tokenizer) if tokenizer.chat_template is not None else None
        self.habits = self._template.habits if self._template is not None else Habits()

    def encode(self, text: str, *, add_special: bool) -> tuple[TokenId, ...]:
        """What users write is plain text, never a control token."""
        return self._tokenizer.encode(text, add_special_tokens=add_special)

    def encode_chat(self, talk: Conversation) -> tuple[TokenId, ...]:
        """Through the model's template. Raises InvalidRequest when it refuses, Unsupported when the model has none."""
        if self._template is None:
            raise Unsupported(message="this model has no chat template: send text or token ids")
        return self._template.encode(talk)

    def decode(self, tokens: tuple[TokenId, ...], *, skip_special: bool) -> str:
        return self._tokenizer.decode(tokens, skip_special_tokens=skip_special)

    def spell(self, token: TokenId) -> bytes:
        """What one token adds to a text, in UTF-8; perhaps a part of a character."""
        return self._tokenizer.token_bytes(token)

    def texts(self, request: Request) -> tuple[ChoiceText, ...]:
        """One for each choice of the request, in their order."""
        rules = request.text
        return tuple(
            ChoiceText(
                self._tokenizer,
                stops=rules.stops,
                min_tokens=request.sampling.min_tokens,
                skip_special_tokens=rules.skip_special,
                include_stop=rules.keep_stop,
            )
            for _ in request.choices
        )
