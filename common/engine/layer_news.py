"""The word of an executor amid a step: so many layers of all its rows are done, as far as gathering them goes."""

from collections.abc import Callable
from functools import partial

from common.core.errors import InternalError
from common.core.step import Step
from common.model.stops import Stops

OnLayers = Callable[[Step, int], None]


class LayerNews:
    """Given to an executor when it is made, listened to by a core. Both live on the step loop's thread.

    Where steps are launched ahead, the word comes with the launch: a gather comes behind those layers by itself.

    The number of groups is the largest that divides the layers and is not above `most_groups`. An executor says each
    group at most once a step, in order, and may say none: what a listener has not heard is done when the step is.
    """

    def __init__(self, num_layers: int, most_groups: int) -> None:
        assert num_layers > 0 < most_groups, f"{most_groups} groups of {num_layers} layers"
        self.num_layers = num_layers
        self.num_groups = max(count for count in range(1, most_groups + 1) if num_layers % count == 0)
        self.listener: OnLayers | None = None

    def stops(self, step: Step) -> Stops | None:
        """Where this step's forward is to stop. None: nowhere, nobody listens or all layers are one group."""
        if self.listener is None or self.num_groups == 1:
            return None
        return Stops(num_layers=self.num_layers // self.num_groups, say=partial(self._say, self.listener, step))

    def _say(self, listener: OnLayers, step: Step, num_layers: int) -> None:
        """A listener that fails is no row's fault: an executor must not take it for poison."""
        try:
            listener(step, num_layers)
        except Exception as error:
            raise InternalError(message=f"who listens to finished layers failed: {error!r}") from error
