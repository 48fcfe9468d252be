"""What HTTP clients may send, as pydantic models: types strictly, every violation at once. Ranges that depend on the
model are the router's to check. Knows neither protobuf nor HTTP.
"""
