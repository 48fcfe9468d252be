"""What things cost in seconds: the one model that router, planner and simulator share, and how workers learn it.

Pure, standard library only. No clock: who observes says what time passed. Anyone may call.
"""
