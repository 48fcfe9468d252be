"""A collector that keeps what it is sent: the real OTLP service on a real socket."""

import asyncio

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1 import trace_pb2


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """`spans`: (service.name, service.instance.id, span), in order of arrival."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, str, trace_pb2.Span]] = []
        self.endpoint = ""
        self._came = asyncio.Event()
        self._server = grpc.aio.server()

    async def start(self) -> None:
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)
        self.endpoint = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(grace=None)

    async def Export(  # the name is the protocol's
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: object
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        for resource in request.resource_spans:
            facts = {each.key: each.value.string_value for each in resource.resource.attributes}
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.spans.append((facts["service.name"], facts["service.instance.id"], span))
        self._came.set()
        return trace_service_pb2.ExportTraceServiceResponse()

    async def wait(self, count: int, timeout_s: float = 15.0) -> None:
        """Until so many spans came."""
        async with asyncio.timeout(timeout_s):
            while len(self.spans) < count:
                self._came.clear()
                await self._came.wait()

    def named(self, name: str) -> tuple[str, str, trace_pb2.Span]:
        (found,) = [each for each in self.spans if each[2].name == name]
        return found
