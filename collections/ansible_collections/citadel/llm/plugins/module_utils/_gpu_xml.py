# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the XML of ``nvidia-smi -q -x`` without trusting it.

The output is not always the document alone: warnings stand before or after it, process names hold
bytes that XML does not allow, redirected Windows output is UTF-16. What can be put right without
guessing is put right; everything else is a GpuXmlError that says what and where.
"""

from __future__ import annotations

import re
from typing import Dict, Iterator, List, NamedTuple, Optional
from xml.parsers import expat

ROOT = "nvidia_smi_log"
MAX_BYTES = 32 * 1024 * 1024
MAX_DEPTH = 40
MAX_ELEMENTS = 100_000
MAX_DOCTYPE = 65536

# Hundreds of lines for each GPU that nobody reads here.
SKIPPED = frozenset({"supported_clocks", "accounted_processes"})

_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]")
_BARE_AMPERSAND = re.compile(r"&(?!#[0-9]{1,7};|#x[0-9a-fA-F]{1,6};|(?:amp|lt|gt|quot|apos);)")
_PROCESS_NAME = re.compile(r"(<process_name>)([^\n]*?)(</process_name>)")


class GpuXmlError(ValueError):
    """The text is not the XML that nvidia-smi writes; the message says why and where."""


class Node:
    """One element: its tag, attributes, own text (stripped) and children."""

    __slots__ = ("attributes", "children", "tag", "text")

    def __init__(self, tag: str, attributes: Dict[str, str]) -> None:
        self.tag = tag
        self.attributes = attributes
        self.text = ""
        self.children: List[Node] = []

    def find(self, *path: str) -> Optional[Node]:
        """The first element at this path of tags, or None."""
        node = self
        for tag in path:
            for child in node.children:
                if child.tag == tag:
                    node = child
                    break
            else:
                return None
        return node

    def first(self, *tags: str) -> Optional[Node]:
        """The child with the first of these tags that is there: sections were renamed over the years."""
        for tag in tags:
            node = self.find(tag)
            if node is not None:
                return node
        return None

    def all(self, tag: str) -> Iterator[Node]:
        """Every direct child with this tag."""
        return (child for child in self.children if child.tag == tag)


class Document(NamedTuple):
    """The root element, what stood around the document, and what was put right to read it."""

    root: Node
    messages: List[str]
    repairs: List[str]


class _Reader:
    def __init__(self) -> None:
        self.root: Optional[Node] = None
        self.stack: List[Node] = []
        self.texts: List[List[str]] = []
        self.count = 0
        self.skip_depth = 0

    def doctype(self, _name: str, _system: Optional[str], _public: Optional[str], has_internal: int) -> None:
        if has_internal:
            raise GpuXmlError(
                "the document declares its own entities or elements, which nvidia-smi never does; refused"
            )

    def entity(self, name: str, *_unused: object) -> None:
        raise GpuXmlError(f"the document declares the entity {name!r}, which nvidia-smi never does; refused")

    def start(self, tag: str, attributes: Dict[str, str]) -> None:
        if self.skip_depth:
            self.skip_depth += 1
            if self.skip_depth > MAX_DEPTH:
                raise GpuXmlError(f"elements are nested more than {MAX_DEPTH} deep")
            return
        self.count += 1
        if self.count > MAX_ELEMENTS:
            raise GpuXmlError(f"the document has more than {MAX_ELEMENTS} elements")
        if len(self.stack) >= MAX_DEPTH:
            raise GpuXmlError(f"elements are nested more than {MAX_DEPTH} deep")
        if self.root is None and tag != ROOT:
            raise GpuXmlError(f"the document is a {tag!r}, not a {ROOT!r}")
        if tag in SKIPPED:
            self.skip_depth = 1
            return
        node = Node(tag, attributes)
        if self.stack:
            self.stack[-1].children.append(node)
        else:
            self.root = node
        self.stack.append(node)
        self.texts.append([])

    def end(self, _tag: str) -> None:
        if self.skip_depth:
            self.skip_depth -= 1
            return
        self.stack.pop().text = "".join(self.texts.pop()).strip()

    def data(self, text: str) -> None:
        if self.texts and not self.skip_depth:
            self.texts[-1].append(text)


def _parse(text: str) -> Node:
    reader = _Reader()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = reader.doctype
    parser.EntityDeclHandler = reader.entity
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.data
    try:
        parser.Parse(text, True)
    except expat.ExpatError as error:
        reason = expat.errors.messages.get(error.code, str(error))
        raise GpuXmlError(
            f"not well-formed XML at line {error.lineno}, column {error.offset + 1}: {reason}"
        ) from error
    if reader.root is None:
        raise GpuXmlError(f"no {ROOT!r} element")
    return reader.root


def decode(data: bytes) -> str:
    """UTF-8, UTF-16 with a byte order mark, else Latin-1, in which every byte is a character."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    if data.startswith(b"\xef\xbb\xbf"):
        data = data[3:]
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _cut(text: str) -> "tuple[str, List[str]]":
    """The first document in the text, and the lines that stand around it."""
    begin = text.find(f"<{ROOT}")
    if begin < 0:
        raise GpuXmlError(
            f"no <{ROOT}> in the {len(text)} characters: this is not the output of nvidia-smi -q -x"
        )
    doctype = text.rfind("<!DOCTYPE", max(0, begin - MAX_DOCTYPE), begin)
    if doctype >= 0:
        begin = doctype
    closing = f"</{ROOT}>"
    end = text.find(closing, begin)
    if end < 0:
        last = text[-60:].strip().splitlines()
        raise GpuXmlError(
            f"truncated: no {closing} at the end, the last characters are {(last or [''])[-1]!r}"
        )
    before = re.sub(r"<\?xml[^>]{0,200}\?>|<!--.{0,4000}?-->", "", text[:begin][-4000:], flags=re.DOTALL)
    around = before + "\n" + text[end + len(closing) :][:4000]
    lines = (line.strip() for line in around.splitlines())
    messages = [line[:300] for line in lines if line and not line.startswith("<")]
    return text[begin : end + len(closing)], messages[:20]


def _escape_names(text: str) -> str:
    def escaped(match: "re.Match[str]") -> str:
        name = match.group(2).replace("<", "&lt;").replace(">", "&gt;")
        return match.group(1) + name + match.group(3)

    return _PROCESS_NAME.sub(escaped, _BARE_AMPERSAND.sub("&amp;", text))


def load(data: bytes) -> Document:
    """Parse the output of ``nvidia-smi -q -x``. Raises GpuXmlError, and nothing else."""
    if len(data) > MAX_BYTES:
        raise GpuXmlError(f"{len(data)} bytes are more than the {MAX_BYTES} that are read")
    if not data.strip():
        raise GpuXmlError("empty output")
    text, messages = _cut(decode(data))
    repairs = []
    clean = _NOT_XML.sub("\ufffd", text)
    if clean != text:
        repairs.append("characters that XML does not allow were replaced")
    try:
        return Document(_parse(clean), messages, repairs)
    except GpuXmlError:
        escaped = _escape_names(clean)
        if escaped == clean:
            raise
    repairs.append("characters in process names were escaped")
    return Document(_parse(escaped), messages, repairs)
