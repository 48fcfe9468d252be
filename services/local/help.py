"""What --help says beside the flags: one paragraph, and examples that can be pasted."""

TITLE = """Baton: an LLM serving cluster that reads prompts on prefill workers and writes answers on decode workers."""

EXAMPLES = {
    "baton": """Begin with:
  baton demo                              the whole relay once
  baton up                                keep a cluster running
  baton generate "def read_json(path):"   in another terminal""",
    "up": """Examples:
  baton up --prefill 2 --decode 2 --routers 2
  baton up --model ~/my-llama --set model.dtype=bfloat16
  baton up --config cluster.toml --set local.decode=4
A process that dies is started again. Ctrl-C drains and stops all, a second
one stops at once. Relative paths in values begin where you are.""",
    "generate": """Examples:
  baton generate "def read_json(path):" --max-tokens 64 --temperature 0
  baton generate --chat "What does os.walk do?"
  git show HEAD:README.md | baton generate --stop "##" --json
  baton generate --tokens 1,2,3 -n 2 --seed 7
The answer goes to standard output, everything else to standard error.""",
    "top": """Examples:
  baton top
  baton top --count 1                     once, for scripts
Latencies are upper edges of histogram buckets since the router started.""",
    "drain": """Examples:
  baton drain decode-0
  baton drain decode-0 --grace 120
Its answers move to another decode worker with their pages, where there is
one with room. `baton up` starts a successor: a restart that nobody notices.""",
    "doctor": """Exit code 7 when something is at fault. Without a running cluster it checks
what a start needs. Every link is measured with 4 MiB of probe data.""",
    "replay": """Examples:
  baton up --set router.decision_log=decisions
  baton replay decisions/router-0.jsonl
  baton replay decisions/router-0.jsonl --policy always-local
  baton replay decisions/router-0.jsonl --set damage_weight=1""",
    "plan": """Examples:
  baton plan --trace code.csv --depth 1 --depth 5 --late 0.05
  baton plan --trace talk.jsonl --day 3600 --plot out.png""",
    "simulate": """Examples:
  baton simulate --trace conversation.jsonl --workers 8 --routing-only
  baton simulate --trace code.csv --prefill 2 --decode 6 --seed 1 --seed 2
  baton simulate --trace talk.jsonl --calibration mine.json --plot out.png
Policy, schedulers and admission are the ones that serve; docs/simulator.md
says what stands in for the rest.""",
    "calibrate": """Examples:
  baton calibrate --seconds 60 --check
  baton simulate --trace talk.jsonl --calibration calibration.json
Give the --config and --set of `baton up`, so that limits are the same. The
cluster answers random prompts meanwhile; its workers fit their own timings.""",
    "config": """Weakest first: default, --config FILE, environment BATON_SECTION__KEY, --set.
Examples:
  baton config --print
  baton config --reasons --set liveness.lease_s=5""",
}
