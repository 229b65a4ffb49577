"""Texts that would run, load, hide or break something wherever they are printed without care."""

from __future__ import annotations

AWAY = "http://127.0.0.1:9/pwned"
"""Where a payload that loads something would load it from: nothing listens there."""

PAYLOADS: dict[str, str] = {
    "script": "<script>window.__pwned=1</script>",
    "script_in_capitals": "<SCRIPT SRC=//127.0.0.1:9/pwned></SCRIPT>",
    "attribute_breaker": '"><img src=x data-pwned onerror="window.__pwned=1">',
    "single_quote_breaker": "'><svg data-pwned onload='window.__pwned=1'>",
    "unquoted_breaker": "x onmouseover=window.__pwned=1 data-pwned=1",
    "style_end": "</style><script>window.__pwned=1</script>",
    "title_end": "</title><script>document.title='__pwned'</script>",
    "script_end": "</script><script>window.__pwned=1</script>",
    "comment": "--><script>window.__pwned=1</script><!--",
    "javascript_address": "javascript:window.__pwned=1",
    "data_address": "data:text/html,<script>window.__pwned=1</script>",
    "iframe": f"<iframe data-pwned src={AWAY}></iframe>",
    "base": f"<base data-pwned href={AWAY}>",
    "refresh": f"<meta data-pwned http-equiv=refresh content='0;url={AWAY}'>",
    "form": f"<form data-pwned action={AWAY}><button autofocus>",
    "math": "<math><mtext><style><img data-pwned src onerror=window.__pwned=1></style></mtext></math>",
    "svg_text": "</text></svg><script>window.__pwned=1</script>",
    "css": f"red;background:url({AWAY});pwned:1",
    "css_import": f"@import url({AWAY});",
    "template": "pwned{{7*7}}${7*7}{%raw%}",
    "python_template": "{0.__class__}%(x)s{pwned!r}",
    "json_end": '"},"pwned":[{"x":"\\u003cscript>',
    "entities": "&lt;script&gt;window.__pwned=1&lt;/script&gt;",
    "right_to_left": "abc\u202egnp.exe\u2066x",
    "zero_width": "il\u200bl\ufeff\u00ad",
    "escape_codes": "\x1b[31mred\x1b[0m\x1b]0;pwned\x07\x9b1A",
    "new_lines": "one\ntwo\rthree\u2028four",
    "nul": "before\0after",
    "formula": '=HYPERLINK("http://127.0.0.1:9/pwned","x")',
    "formula_plus": "+1+cmd|' /C calc'!A0",
    "formula_at": "@SUM(1+1)*cmd",
    "formula_tab": "\t=1+1",
    "formula_minus": "-2+3",
    "latex": "\\immediate\\write18{pwned}\\input{/etc/passwd}%$&#_{}~^",
    "markdown": f"[x](javascript:window.__pwned=1) ![y]({AWAY}) **bold** `code`",
    "markdown_table": "a | b\n|---|---|\n# pwned <img data-pwned src=x onerror=window.__pwned=1>",
    "yaml": "\n---\nlicense: pwned\n---\n!!python/object/apply:os.system ['x']",
    "console_markup": "a[/pwned][bold red]b[link=javascript:x]c",
    "long": "<b data-pwned>" + "W" * 10_000,
}
"""Each by what it tries."""
