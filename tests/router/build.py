"""Values that the router's tests are made of."""

from common.core.ids import Epoch, RequestId, RouterId, RouterRef, TenantId, TokenId, WorkerId, WorkerRef
from common.core.request import Priority, TokenSampling
from common.core.worker import LoadReport, Member, PageCounts, Role, WorkerState
from services.router.request import Request, TextRules, mint_choices
from services.router.view import WorkerView
from services.router.words import Piece

ROUTER = RouterRef(router=RouterId("router-0"), epoch=Epoch(77))


def worker_ref(name: str, epoch: int = 1) -> WorkerRef:
    return WorkerRef(worker=WorkerId(name), epoch=Epoch(epoch), address=f"{name}:1")


def load(free: int = 100, total: int = 100, **fields: int) -> LoadReport:
    pages = PageCounts(total=total, free=free, promised=0, referenced=total - free, cached=0)
    return LoadReport(pages=pages, **fields)


def member(name: str, role: Role, *, epoch: int = 1, state: WorkerState = WorkerState.READY, pages: int = 100) -> Member:
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


class SpelledWords:
    """Every token is its number and a space; a stop string ends the choice at the token that completes it."""

    def __init__(self, stops: tuple[str, ...] = ()) -> None:
        self._stops = stops
        self._text = ""

    def push(self, tokens: tuple[TokenId, ...], *, is_last: bool, stop_token: TokenId | None) -> Piece:
        before = len(self._text)
        for count, token in enumerate(tokens, start=1):
            self._text += f"{token} "
            for stop in self._stops:
                if stop in self._text:
                    end = self._text.index(stop)
                    return Piece(text=self._text[before:end], num_tokens=count, stop_string=stop)
        return Piece(text=self._text[before:], num_tokens=len(tokens))
