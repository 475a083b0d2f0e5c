"""What can go wrong with a release.

ReleaseError
├── BadModel        an ONNX file is not what a pipeline or an engine needs; the message names node and remedy
├── BadDraft        a draft or a published release is not whole, or was changed after it was signed
│   └── Untrusted   its signature is missing, wrong, or of a key that is not trusted here
├── GateFailed      the clinical gate has not been passed
├── ServeFailed     a server does not serve the release: a load, a golden film or a probe failed; it serves what it did
│   └── FellBack     the stable release cannot be served; another good one is, or none
├── RegistryAway    a registry cannot be reached or written now; what was fetched from it stays
└── Absent          there is no such release, draft or record
"""


class ReleaseError(Exception):
    """Base of all errors of this package; the message is for a human and names the remedy."""


class BadModel(ReleaseError):
    """An ONNX file is not what a pipeline or an engine needs."""


class BadDraft(ReleaseError):
    """A draft or a published release is not whole, or not what its manifest says."""


class Untrusted(BadDraft):
    """A release's signature is missing, wrong, or of a key that is not trusted here."""


class GateFailed(ReleaseError):
    """The clinical gate has not been passed."""


class ServeFailed(ReleaseError):
    """A server does not serve the release; it serves what it served before."""


class RegistryAway(ReleaseError, OSError):
    """A registry cannot be reached or written now; what was fetched from it stays. An OSError, as of any folder."""


class FellBack(ServeFailed):
    """A server does not serve the stable release but another good one, or none where there is no other."""


class Absent(ReleaseError):
    """There is no such release, draft or record."""
