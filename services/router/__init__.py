"""The entrance: validates, admits, places, follows and answers requests. Alone starts, places and cancels work.

Lives here: what clients call (frontend, operators), the queue (admission), the pure policy, the view of the fleet, the
life of one request (dispatch > journey > leg), the exactly-once stream, and all of a request's text.
May not: import torch or another service; keep state that another router would need, except its own streams.
Who may call: clients and operators over gRPC; nobody imports it.

    frontend -> validate -> dispatch -> journey -> admission, then leg after leg until every choice is finished
    leg: policy.choose -> workers (Reserve, Prefill, StartLocal, Renew) <- fleet (events, loads, losses)
"""
