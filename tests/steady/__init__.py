"""What keeps a verdict from hanging on how fast the machine is, or on whether it stood still for a while.

`virtual_time`: coroutines without threads and sockets, in time that jumps. `patient_loop`: the others, in time that the
machine did give. `twice`, the second line of defence: what failed beside others is tried once more, alone, and told.
"""
