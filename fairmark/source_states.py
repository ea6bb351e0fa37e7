"""What a running fetcher tells of its sources, at `/sources` beside `/health`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from fastapi import FastAPI, Response
from msgspec import Struct, structs

from sources import SourceStatus
from sources.streams import StreamState


class Told(Struct, frozen=True, kw_only=True):
    """What one fetcher tells of its sources, in order of its priority."""

    fetcher: str
    mode: str
    sources: tuple[SourceStatus, ...]


def show_sources(
    app: FastAPI,
    fetcher: str,
    mode: str,
    status: Callable[[], Sequence[SourceStatus]],
    streams: Callable[[], Sequence[StreamState]] = tuple,
) -> None:
    """Serve a fetcher's sources, and how their streams stand, on its operators' endpoints."""

    @app.get("/sources", summary="Each source: state, health, latency, failures, what may still be asked")
    async def sources() -> Response:
        streamed = {each.source: each for each in streams()}
        shown = tuple(structs.replace(each, stream=stream_words(streamed.get(each.source))) for each in status())
        told = Told(fetcher=fetcher, mode=mode, sources=shown)
        return Response(msgspec.json.encode(told), media_type="application/json")


def stream_words(state: StreamState | None) -> str:
    """How a source's stream stands, in few words; none where it has none."""
    if state is None:
        return ""
    if not state.up:
        return f"down ({state.last_loss or 'not up so far'})"
    age = "nothing so far" if state.age_s < 0 else f"{state.age_s:.1f} s ago"
    return f"{state.up} of {state.connections} up, {age}"
