"""The JSON of the service; what `/openapi.json` describes."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from plainfilm.web.model import Answer


class Fault(BaseModel):
    """Why a request, or one image of it, was refused."""

    code: str = Field(description="Stable, such as `IMG_TRUNCATED`; safe to match in programs.")
    detail: str = Field(description="What was wrong and how to mend it; never text from the image's header.")


class Warned(BaseModel):
    """What to beware of in an image."""

    code: Literal["SEEN_BEFORE", "NEAR_DUPLICATE", "LOOKS_INVERTED", "WRONG_DEPTH", "UNLIKE_TRAINING"]
    text: str


class Stored(BaseModel):
    """How an image was stored, and what was done to make it one grey channel."""

    format: str
    bits: int = Field(description="Significant bits of the stored samples.")
    channels: int
    width: int
    height: int
    notes: list[str] = Field(description="Each conversion, as short stable words.")
    pixel_sha256: str


class Prediction(BaseModel):
    """What the model says of one image."""

    index: int = Field(description="Place of the image in the request, from 0.")
    predicted: str = Field(description="Class of the highest score.")
    scores: dict[str, float] = Field(description="By class; they add up to 1.")
    set: list[str] | None = Field(description="Classes that it may be; null without a rule for abstaining.")
    answer: str | None = Field(description="The class, where the set is one class.")
    abstains: bool | None = Field(description="Whether the model says nothing; null without a rule.")
    call: Literal["positive", "negative"] | None = Field(description="At the threshold of the run; null without one.")
    unlike_training: bool | None = Field(description="Null where that was not learnt.")
    unlike_why: str
    words: str = Field(description="The answer in plain words.")
    warnings: list[Warned]
    image: Stored

    @classmethod
    def of(cls, index: int, answer: Answer) -> Prediction:
        """An answer as JSON."""
        record = answer.record
        return cls(
            index=index,
            predicted=answer.predicted,
            scores=dict(answer.scores),
            set=None if answer.set is None else list(answer.set),
            answer=answer.answer,
            abstains=answer.abstains,
            call=answer.call,
            unlike_training=answer.unlike_training,
            unlike_why=answer.unlike_why,
            words=answer.words,
            warnings=[Warned(code=one.code, text=one.text) for one in answer.cautions],
            image=Stored(
                format=record.format,
                bits=record.bits,
                channels=record.channels,
                width=record.width,
                height=record.height,
                notes=list(record.notes),
                pixel_sha256=record.pixel_sha256,
            ),
        )


class Unreadable(Fault):
    """One image that could not be read."""

    index: int = Field(description="Place of the image in the request, from 0.")


class Predictions(BaseModel):
    """What the model says of the images of a request."""

    classes: list[str] = Field(description="In the order of training.")
    predictions: list[Prediction]
    refused: list[Unreadable]


class Explanation(BaseModel):
    """Where the model looks, for one class."""

    explained: str = Field(description="The class whose score is explained.")
    method: str
    verdict: Literal["passed", "failed", "unchecked"] = Field(description="Of the randomisation check of Grad-CAM.")
    sentence: str = Field(description="The verdict with its numbers.")
    width: int
    height: int
    signed: bool = Field(description="Whether values below 0 speak against the class.")
    map: str = Field(description="Float32, little-endian, row by row, in base64: height x width values, -1 to 1.")
    layer: str = Field(description="The same in colours, as PNG in base64: nothing where there is no heat.")


class View(BaseModel):
    """The pixels that were read, for a screen."""

    width: int
    height: int
    depth: Literal[8, 16] = Field(description="Bits of each value in `pixels`.")
    low: float = Field(description="What the value 0 stands for, in the image's own units.")
    high: float = Field(description="What the largest value stands for.")
    model_low: float = Field(description="Lower end of the window that the model sees, in the same units.")
    model_high: float
    pixels: str = Field(description="Unsigned, little-endian, row by row, in base64.")


class Neighbour(BaseModel):
    """One training image beside the uploaded one."""

    label: str | None
    split: Literal["train", "validation"]
    correlation: float = Field(description="Of the pixels of both at 64x64.")
    picture: str = Field(description="A small PNG in base64.")


class Neighbours(BaseModel):
    """The training images most like the uploaded one, by their pixels."""

    state: Literal["ready", "reading", "absent"] = Field(description="Whether the images of the run are there.")
    reason: str = Field(description="Why there are none; empty otherwise.")
    compared: int = Field(description="Training images that were compared.")
    known: int = Field(description="Images that the run learned from.")
    images: list[Neighbour]


class State(BaseModel):
    """Whether the service works."""

    status: Literal["ok", "ready"]


JSON_FAULTS: dict[int | str, dict[str, Any]] = {
    status: {"model": Fault, "description": what}
    for status, what in {
        400: "The request is not well-formed, or has a parameter that does not exist.",
        401: "The token is missing or wrong.",
        403: "The request comes from a page of another origin.",
        408: "The body comes too slowly.",
        413: "The body is too large, or holds too many images.",
        415: "The body is not multipart/form-data, or is encoded.",
        421: "The service is not known under this host.",
        422: "No image could be read; the code says why.",
        500: "An error of plainfilm's own.",
        503: "Too much at the same time; ask again after `Retry-After` seconds.",
    }.items()
}
UPLOAD: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {"image": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                }
            }
        },
    }
}
