"""Who may be placed next, and who is told at once that there is no room.

Lives here: the line (bounded, fair among tenants, strict among classes with ageing), the limits of tenants, the learnt
number of places, the forecast of waiting, shedding, and the thin shell that lets coroutines wait in the line.
May not: know workers, legs or the wire; ask for the time or for chance, except in `admission`, the shell.
Who may call: the router's journeys, dispatcher and operators; the simulator runs the line on a virtual clock.
"""
