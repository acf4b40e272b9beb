"""Routes for sound: clips that are sent, and what is played and drawn of them and of windows."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, File, Query, UploadFile
from starlette.responses import FileResponse, Response

from indexer.errors import SoundalikeError
from indexer.tags import pick_heard
from soundalike.web.desk import Desk
from soundalike.web.gate import BusyError
from soundalike.web.media import Span
from soundalike.web.parameters import (
    Around,
    AtDesk,
    ClipPath,
    End,
    Height,
    Start,
    Width,
    WindowPath,
)
from soundalike.web.replies import Json, tag_reply
from soundalike.web.uploads import Upload

router = APIRouter(default_response_class=Json)

#: Tags of a clip that are told, from this probability on.
_NUM_TAGS, _LEAST_TOLD = 8, 0.1
#: Of decoded spans and pictures: a window's audio does not change, but its file may go.
_KEPT = {"Cache-Control": "private, max-age=600"}


@router.post("/clips", status_code=201)
def send(desk: AtDesk, file: Annotated[UploadFile, File()]) -> Response:
    """Send a sound that is to ask: an audio file, or a recording. It is kept for an hour."""
    upload = desk.uploads.add(file.file, _name_of(file))
    return Json(_clip_reply(desk, upload), 201)


@router.get("/clips/{clip}")
def clip(desk: AtDesk, clip: ClipPath) -> Response:
    """Say what is known of a sound that was sent."""
    return Json(_clip_reply(desk, desk.upload(clip)))


@router.get("/clips/{clip}/audio")
def clip_audio(desk: AtDesk, clip: ClipPath, start_s: Start = 0, end_s: End = None) -> FileResponse:
    """Return a part of a sound that was sent, as WAV."""
    return _audio(desk, desk.span_of_upload(clip, start_s, end_s))


@router.get("/clips/{clip}/spectrogram")
def clip_spectrogram(
    desk: AtDesk,
    clip: ClipPath,
    start_s: Start = 0,
    end_s: End = None,
    width: Width = 800,
    height: Height = 96,
) -> FileResponse:
    """Return a picture of a part of a sound that was sent, as PNG."""
    return _picture(desk, desk.span_of_upload(clip, start_s, end_s), width, height)


@router.get("/windows/{window}/audio")
def window_audio(
    desk: AtDesk,
    window: WindowPath,
    start_s: Start = 0,
    end_s: End = None,
    before_s: Around = 0,
    after_s: Around = 0,
) -> FileResponse:
    """Return the audio of a window, or a part of it, as WAV; and what is before and after it."""
    return _audio(desk, _span(desk, window, start_s, end_s, before_s, after_s))


@router.get("/windows/{window}/spectrogram")
def window_spectrogram(
    desk: AtDesk,
    window: WindowPath,
    before_s: Around = 0,
    after_s: Around = 0,
    width: Width = 320,
    height: Height = 72,
) -> FileResponse:
    """Return a picture of a window as PNG; and of what is before and after it."""
    return _picture(desk, _span(desk, window, 0, None, before_s, after_s), width, height)


@router.get("/windows/{window}/peaks")
def window_peaks(
    desk: AtDesk, window: WindowPath, num: Annotated[int, Query(ge=1, le=2000)] = 300
) -> Response:
    """Return the least and the greatest samples of a window, of so many equal parts of it."""
    peaks, duration_s = desk.media.peaks(desk.span_of_window(window, 0, None), num)
    told = {"peaks": _told(peaks), "duration_s": duration_s}
    return Json(told, Cache_Control=_KEPT["Cache-Control"])


def _name_of(file: UploadFile) -> str:
    """Return how a file was called: browsers write three characters of a name in another way."""
    name = file.filename or "recording"
    return name.replace("%22", '"').replace("%0D", "").replace("%0A", " ")


def _span(
    desk: Desk,
    window: str,
    start_s: float,
    end_s: float | None,
    before_s: float,
    after_s: float,
) -> Span:
    if end_s is None and after_s:
        hit = desk.window(window)
        end_s = hit.end_s - hit.start_s
    end = None if end_s is None else end_s + after_s
    return desk.span_of_window(window, start_s - before_s, end)


def _audio(desk: Desk, span: Span) -> FileResponse:
    return FileResponse(desk.media.wav(span), media_type="audio/wav", headers=_KEPT)


def _picture(desk: Desk, span: Span, width: int, height: int) -> FileResponse:
    picture = desk.media.spectrogram(span, (width, height))
    return FileResponse(picture, media_type="image/png", headers=_KEPT)


def _clip_reply(desk: Desk, upload: Upload) -> dict[str, Any]:
    survey = upload.survey
    told: dict[str, Any] = {
        "id": upload.id,
        "name": upload.name,
        "duration_s": survey.duration_s,
        "rate_hz": survey.rate_hz,
        "channels": survey.channels,
        "peaks": _told(survey.peaks),
        "peaks_s": survey.peaks_s,
        "tags": [],
        "warnings": list(survey.warnings),
    }
    try:
        tags = desk.heard_in(upload).tags.max(0)
        heard = pick_heard(tags, threshold=_LEAST_TOLD, top=_NUM_TAGS)
        told["tags"] = [tag_reply(one) for one in heard]
    except (SoundalikeError, BusyError) as error:  # it is kept, and can be played all the same
        told["warnings"].append(str(error))
    return told


def _told(peaks: Any) -> list[list[float]]:
    return [[round(low, 3), round(high, 3)] for low, high in peaks.tolist()]
