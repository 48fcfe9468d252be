"""What it costs to begin an answer on a worker that is still reading: both share its steps until that is done."""

from services.router.policy.reading import Reading
from services.router.policy.scene import Scene
from services.router.policy.writing import Writing, lost_share


def beside_s(reading: Reading, writing: Writing, there: Reading, scene: Scene) -> float:
    """The answer's tokens come as slowly as prompts allow, and those prompts are read in smaller chunks.

    `there`: what reading on the writer would be like, whose queue are the prompts that it has. Those that are read by
    the time of the first token meet nobody. An answer that is written where its prompt was read comes after them.
    """
    settings = scene.settings
    slow_s = max(writing.itl_s, settings.extend_itl_s)
    left_s = min(max(0.0, there.queue_s - reading.seconds), scene.answer_tokens * slow_s)
    if not left_s:
        return 0.0
    own_s = settings.write_weight * left_s * (1.0 - writing.itl_s / slow_s)
    return own_s + writing.worker.backlog_prompts * left_s * lost_share(writing.worker, scene)
