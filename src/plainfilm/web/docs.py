"""The description of the routes as one page without a script, from the same source as `/openapi.json`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from plainfilm.pages import packaged, page_environment


def docs_page(openapi: Mapping[str, Any]) -> str:
    """HTML that describes every route, its parameters and its answers."""
    template = page_environment().from_string(packaged("plainfilm.web", "templates/docs.html.j2"))
    return template.render(title=openapi["info"]["title"], about=openapi["info"]["description"],
                           version=openapi["info"]["version"], routes=list(_routes(openapi)))  # fmt: skip


def _routes(openapi: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    schemas = openapi.get("components", {}).get("schemas", {})
    for path, methods in openapi["paths"].items():
        for method, said in methods.items():
            content = said["responses"]["200"].get("content", {})
            yield {
                "method": method.upper(),
                "path": path,
                "what": said.get("description", ""),
                "takes_images": "requestBody" in said,
                "parameters": [
                    {
                        "name": one["name"],
                        "what": one.get("description", ""),
                        "default": one["schema"].get("default"),
                        "choices": one["schema"].get("enum", []),
                    }
                    for one in said.get("parameters", [])
                ],
                "kinds": sorted(content),
                "fields": _fields(content.get("application/json", {}).get("schema", {}), schemas),
            }


def _fields(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> list[dict[str, str]]:
    """The properties of an answer, those of its parts after it."""
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    own = schemas.get(name, {}).get("properties", {})
    found = [{"of": name, "name": field, "what": about.get("description", "")} for field, about in own.items()]
    for about in own.values():
        for part in (about, about.get("items", {})):
            found += _fields(part, schemas) if "$ref" in part else []
    return found
