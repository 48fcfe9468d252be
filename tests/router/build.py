"""Values that the router's tests are made of."""

from typing import cast

from common.core.ids import Epoch, RequestId, RouterId, RouterRef, TenantId, TokenId, WorkerId, WorkerRef
from common.core.request import Priority, TokenSampling
from common.core.worker import LoadReport, Member, PageCounts, Role, WorkerState
from common.text.choice import ChoiceText
from common.text.control import ControlTokens
from common.text.tokenizer import Tokenizer
from services.router.request import Request, TextRules, mint_choices
from services.router.view import WorkerView

ROUTER = RouterRef(router=RouterId("router-0"), epoch=Epoch(77))


def worker_ref(name: str, epoch: int = 1) -> WorkerRef:
    return WorkerRef(worker=WorkerId(name), epoch=Epoch(epoch), address=f"{name}:1")


def load(free: int = 100, total: int = 100, **fields: int) -> LoadReport:
    pages = PageCounts(total=total, free=free, promised=0, referenced=total - free, cached=0)
    return LoadReport(pages=pages, **fields)  # type: ignore[arg-type]  # no test gives counts to `cost`


def member(
    name: str, role: Role, *, epoch: int = 1, state: WorkerState = WorkerState.READY, pages: int = 100
) -> Member:
    return Member(
        worker=worker_ref(name, epoch),
        role=role,
        state=state,
        load=load(pages, pages),
        layout_fingerprint=bytes(32),
    )


def worker_view(name: str, role: Role, **fields: object) -> WorkerView:
    defaults: dict[str, object] = {"is_eligible": True, "load": load(), "age_s": 100.0}
    return WorkerView(worker=worker_ref(name), role=role, **{**defaults, **fields})  # type: ignore[arg-type]


def request(
    name: str = "req",
    *,
    prompt: int = 8,
    n: int = 1,
    max_tokens: int = 8,
    received: float = 0.0,
    deadline: float = 60.0,
    priority: Priority = Priority.STANDARD,
    rules: TextRules | None = None,
) -> Request:
    return Request(
        id=RequestId(name),
        prompt=tuple(TokenId(token) for token in range(1, prompt + 1)),
        sampling=TokenSampling(max_tokens=max_tokens, temperature=0.0),
        choices=mint_choices(42, n),
        text=rules or TextRules(return_token_ids=True),
        priority=priority,
        tenant=TenantId("default"),
        cache_scope=bytes(32),
        received=received,
        deadline=deadline,
    )


class SpelledTokenizer:
    """Every token is its number and a space."""

    control = ControlTokens(ids={}, hidden=frozenset())

    def token_bytes(self, token: TokenId) -> bytes:
        return f"{token} ".encode()

    def whole_text(self, token: TokenId) -> str:
        return f"{token} "


def spelled_text(stops: tuple[str, ...] = ()) -> ChoiceText:
    return ChoiceText(cast(Tokenizer, SpelledTokenizer()), stops=stops)
