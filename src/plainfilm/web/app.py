"""The routes of the service."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Annotated, Any, Final, Literal

import numpy as np
import numpy.typing as npt
from fastapi import Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException

from plainfilm import __version__
from plainfilm.data.fitting import content_box
from plainfilm.data.pixels import DTYPES, FULL_RANGE
from plainfilm.errors import ImageError, PlainfilmError
from plainfilm.explanation.saliency import METHODS
from plainfilm.plots.explanation import heat_layer, overlay, picture_png
from plainfilm.web import schemas
from plainfilm.web.asking import Desk
from plainfilm.web.bounds import Disconnected, Load
from plainfilm.web.counters import Counters
from plainfilm.web.docs import docs_page
from plainfilm.web.gallery import Gallery, one_image
from plainfilm.web.limits import Refusal, ServiceLimits, busy
from plainfilm.web.replies import status_of
from plainfilm.web.uploads import read_images
from plainfilm.web.words import RESEARCH_ONLY

MOST_SIDE: Final = 2048  # pixels of a view
KINDS: Final = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
# Those that take milliseconds.
Method = Literal["gradcam", "gradcam++", "xgradcam", "hirescam", "layercam", "eigencam", "gradient"]


def create_app(desk: Desk, limits: ServiceLimits, counters: Counters, load: Load) -> FastAPI:
    """The application behind the door.

    Args:
        desk: Answers images.
        limits: What a request may hold.
        counters: What `/metrics` shows.
        load: How much is inside, likewise.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with desk.opened():
            yield

    app = FastAPI(
        title="plainfilm",
        description=f"Scores images with one trained model. {RESEARCH_ONLY}",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        responses=schemas.JSON_FAULTS,
        dependencies=[Depends(_refuse_unknown_parameters)],
    )
    _answer_errors_as_json(app)
    _add_questions(app, desk, limits)
    _add_facts(app, desk, counters, load)
    _add_pages(app)
    return app


def _add_questions(app: FastAPI, desk: Desk, limits: ServiceLimits) -> None:
    """What is asked about images: POST, each with the images in its body."""

    async def images(request: Request) -> list[bytes]:
        return await read_images(request.headers.get("content-type", ""), request.stream(), most=limits.max_images)

    async def one(request: Request) -> bytes:
        found = await images(request)
        if len(found) > 1:
            raise Refusal(400, "REQ_ONE_IMAGE", "Send one image to this route.")
        return found[0]

    @app.post("/predict", openapi_extra=schemas.UPLOAD)
    async def predict(request: Request) -> schemas.Predictions:
        """Score one or many images; the same bytes get the scores that `plainfilm predict` gives."""
        answers = await asyncio.gather(*(desk.answer(data) for data in await images(request)), return_exceptions=True)
        refused = [error for error in answers if isinstance(error, ImageError)]
        others = [error for error in answers if isinstance(error, BaseException) and not isinstance(error, ImageError)]
        if others or len(refused) == len(answers):
            raise (others or refused)[0]
        return schemas.Predictions(
            classes=list(desk.served.config.classes),
            predictions=[
                schemas.Prediction.of(index, answer)
                for index, answer in enumerate(answers)
                if not isinstance(answer, BaseException)
            ],
            refused=[
                schemas.Unreadable(index=index, code=error.code, detail=str(error))
                for index, error in enumerate(answers)
                if isinstance(error, ImageError)
            ],
        )

    @app.post(
        "/explain",
        openapi_extra=schemas.UPLOAD,
        response_model=schemas.Explanation,
        responses={200: {"content": {"image/png": {}}}},
    )
    async def explain(
        request: Request,
        of: Annotated[str | None, Query(max_length=500, description="Class; by default the predicted one.")] = None,
        method: Annotated[Method, Query(description="Method of explanation.")] = "gradcam",
        format: Annotated[Literal["json", "png"], Query(description="Map with its verdict, or a picture.")] = "json",
    ) -> Any:
        """Where the model looks in one image, with the verdict on whether that can be believed."""
        decoded = await desk.read(await one(request))
        assert decoded.pixels is not None
        pixels = decoded.pixels
        explained, heat = await desk.with_model(lambda: desk.served.heat(pixels, of=of, method=method))
        signed = METHODS[method].signed
        if format == "png":
            picture = await asyncio.to_thread(lambda: picture_png(overlay(pixels, heat, signed=signed)))
            return Response(picture, media_type="image/png")
        assert decoded.record is not None
        preprocessing = desk.served.config.preprocessing
        if preprocessing.fit == "pad":
            size = decoded.record.height, decoded.record.width
            heat = heat[content_box(size, preprocessing.height, preprocessing.width)]
        facts = desk.served.heat_facts()
        return schemas.Explanation(
            explained=explained,
            method=METHODS[method].title,
            verdict=facts.verdict if facts.method == METHODS[method].title else "unchecked",
            sentence=facts.sentence if facts.method == METHODS[method].title else "This method was not checked.",
            width=heat.shape[1],
            height=heat.shape[0],
            signed=signed,
            map=_base64(np.ascontiguousarray(heat, dtype="<f4").tobytes()),
            layer=_base64(await asyncio.to_thread(lambda: picture_png(heat_layer(heat, signed=signed)))),
        )

    @app.post("/view", openapi_extra=schemas.UPLOAD)
    async def view(
        request: Request,
        side: Annotated[int, Query(ge=16, le=MOST_SIDE, description="Pixels of the longer side, at most.")] = 1024,
    ) -> schemas.View:
        """The pixels of one image as they were read, at their own depth."""
        decoded = await desk.read(await one(request), view_side=side)
        assert decoded.view is not None
        preprocessing = desk.served.config.preprocessing
        return _view_of(decoded.view, preprocessing.low, preprocessing.high)

    @app.post("/neighbours", openapi_extra=schemas.UPLOAD)
    async def neighbours(request: Request) -> schemas.Neighbours:
        """The training images most like one image, where the run's images are still there."""
        data = await one(request)
        gallery = desk.served.gallery
        if not isinstance(gallery, Gallery):
            await desk.read(data)  # what cannot be read is refused here as elsewhere
            return schemas.Neighbours(state=desk.served.gallery_state, reason=gallery, compared=0, known=0, images=[])
        prepared = await desk.prepare(data)
        found = await asyncio.to_thread(lambda: gallery.nearest(one_image(prepared.pixels)))
        return schemas.Neighbours(
            state="ready",
            reason="",
            compared=len(gallery),
            known=gallery.n_known,
            images=[
                schemas.Neighbour(
                    label=near.label,
                    split=near.split,
                    correlation=near.correlation,
                    picture=_base64(near.picture),
                )
                for near in found
            ],
        )


def _view_of(pixels: npt.NDArray[Any], model_low: float, model_high: float) -> schemas.View:
    """Pixels for a canvas; floats are spread over 16 bits."""
    full_range = FULL_RANGE[DTYPES.index(pixels.dtype)]
    low, high = 0.0, full_range
    if pixels.dtype == np.float32:
        low, high = float(pixels.min()), float(pixels.max())
        spread = (pixels.astype(np.float64) - low) / max(high - low, 1e-30) * 65535
        pixels = spread.round().astype(np.uint16)
    return schemas.View(
        width=pixels.shape[1],
        height=pixels.shape[0],
        depth=8 if pixels.dtype == np.uint8 else 16,
        low=low,
        high=high,
        model_low=model_low * full_range,
        model_high=model_high * full_range,
        pixels=_base64(np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("<")).tobytes()),
    )


def _add_facts(app: FastAPI, desk: Desk, counters: Counters, load: Load) -> None:
    """What the service tells of itself: GET."""

    @app.get("/card", response_class=PlainTextResponse)
    def card() -> PlainTextResponse:
        """The model card, in Markdown."""
        return PlainTextResponse(desk.served.card())

    @app.get("/metadata")
    def metadata() -> dict[str, Any]:
        """Model, preprocessing, hashes, how it was tested, and the card."""
        gallery = desk.served.gallery
        if isinstance(gallery, Gallery):
            images = {"compared": len(gallery), "known": gallery.n_known, "reason": ""}
        else:
            images = {"compared": 0, "known": 0, "reason": gallery}
        return desk.served.metadata() | {"gallery": {"state": desk.served.gallery_state, **images}}

    @app.get("/health")
    async def health() -> schemas.State:
        """Whether the process answers at all."""
        return schemas.State(status="ok")

    @app.get("/ready")
    async def ready() -> schemas.State:
        """Whether images are answered."""
        if not desk.is_open or load.stopping:
            raise busy("The service is not ready.")
        return schemas.State(status="ready")

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> PlainTextResponse:
        """Counts and times, as Prometheus reads them."""
        text = counters.text(
            requests_with_a_body=load.requests,
            bytes_held=load.held_bytes,
            images_waiting=desk.n_waiting,
            decoders_replaced=desk.restarts,
        )
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_pages(app: FastAPI) -> None:
    """The page, what it is made of, and the description of the routes; read once, so no path is ever looked up."""
    folder = files("plainfilm.web").joinpath("static")
    static = {entry.name: entry.read_bytes() for entry in folder.iterdir() if entry.name.endswith(tuple(KINDS))}
    static["page.css"] = files("plainfilm.pages").joinpath("page.css").read_bytes() + static["page.css"]
    page = files("plainfilm.web").joinpath("templates").joinpath("page.html").read_bytes()
    described = docs_page(app.openapi())

    @app.get("/", include_in_schema=False)
    async def start() -> Response:
        return Response(page, media_type="text/html; charset=utf-8")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return Response(described, media_type="text/html; charset=utf-8")

    @app.get("/static/{name}", include_in_schema=False)
    async def asset(name: str) -> Response:
        if name not in static:
            raise HTTPException(404)
        return Response(static[name], media_type=KINDS[f".{name.rpartition('.')[2]}"])


# --- errors -------------------------------------------------------------------------------------------------

HTTP_FAULTS: Final = {
    404: ("REQ_NO_ROUTE", "There is no such route; see /docs."),
    405: ("REQ_METHOD", "This route is not asked in this way; see /docs."),
}


def _answer_errors_as_json(app: FastAPI) -> None:
    async def of_ours(request: Request, error: Exception) -> Response:
        del request
        if isinstance(error, Disconnected):
            return Response(status_code=499)  # read by nobody
        assert isinstance(error, PlainfilmError)
        if isinstance(error, Refusal):
            return _fault(error.status, error.code, str(error), headers=error.headers)
        status = status_of(error)
        return _fault(status, error.code, str(error), headers={"retry-after": "1"} if status == 503 else None)

    async def of_http(request: Request, error: Exception) -> Response:
        del request
        assert isinstance(error, HTTPException)
        code, detail = HTTP_FAULTS.get(error.status_code, ("REQ_INVALID", "The request cannot be served."))
        return _fault(error.status_code, code, detail, headers=dict(error.headers or {}))

    async def of_parameters(request: Request, error: Exception) -> Response:
        del request
        assert isinstance(error, RequestValidationError)
        names = sorted({str(fault["loc"][-1]) for fault in error.errors()})
        return _fault(400, "REQ_PARAMETER", f"These parameters cannot be: {', '.join(names)}; see /docs.")

    async def of_own(request: Request, error: Exception) -> Response:
        del request, error
        return _fault(500, "INTERNAL", "An error of plainfilm's own. Please report it.")

    handlers: dict[Any, Callable[[Request, Exception], Any]] = {
        PlainfilmError: of_ours,
        Disconnected: of_ours,
        HTTPException: of_http,
        RequestValidationError: of_parameters,
        Exception: of_own,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


def _fault(status: int, code: str, detail: str, *, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"code": code, "detail": detail}, status_code=status, headers=headers)


def _refuse_unknown_parameters(request: Request) -> None:
    """A parameter that does not exist is an error: nobody shall believe that, say, a URL was fetched."""
    route = request.scope.get("route")
    known = _parameters(getattr(route, "dependant", None))
    unknown = sorted(set(request.query_params) - known)
    if unknown:
        raise Refusal(400, "REQ_PARAMETER", f"This route has no such parameter; it has {_listed(sorted(known))}.")


def _parameters(dependant: Any) -> set[str]:
    return set() if dependant is None else {parameter.alias for parameter in dependant.query_params}


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _base64(data: bytes) -> str:
    return b64encode(data).decode("ascii")
