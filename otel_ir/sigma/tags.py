"""Tags that mean something elsewhere, pinned: both lists change, and a tag that nobody else knows helps no responder.

MITRE ATLAS 5.6.1 (May 2026), whose techniques end with T0112; OWASP Top 10 for Agentic Applications (December 2025).
"""

from __future__ import annotations

import re

ATLAS, NEWEST_TECHNIQUE = "ATLAS 5.6.1", 112
SUB_TECHNIQUES = {34: 2, 51: 2, 80: 1, 84: 3, 85: 1}
"""Techniques about agents whose sub-techniques we know -> the highest of them. The others pass."""
_ATLAS_FORM = re.compile(r"atlas\.aml\.(?:t(\d{4})(?:\.(\d{3}))?|m\d{4}|ta\d{4})")
_OWASP_FORM = re.compile(r"owasp\.asi(?:0[1-9]|10)")


def fault_of(namespace: str, tag: str) -> str:
    """What is wrong with a tag of ``owasp`` or ``atlas``, "" for nothing and for every other namespace."""
    if namespace == "owasp":
        return "" if _OWASP_FORM.fullmatch(tag) else "owasp.asi01 to owasp.asi10, the OWASP Top 10 for Agentic Applications"
    if namespace != "atlas":
        return ""
    found = _ATLAS_FORM.fullmatch(tag)
    if found is None:
        return "such as atlas.aml.t0051.001, a MITRE ATLAS technique"
    technique, sub = int(found[1] or 0), int(found[2] or 0)
    if technique > NEWEST_TECHNIQUE:
        return f"{ATLAS}, the release that tags are checked against, ends with t{NEWEST_TECHNIQUE:04}"
    if found[2] and sub > SUB_TECHNIQUES.get(technique, sub):
        return f"in {ATLAS} its sub-techniques end with .{SUB_TECHNIQUES[technique]:03}"
    return ""
