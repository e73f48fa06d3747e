"""What a failed attempt means, class by class, for somebody who knows nothing of this service. Pure."""

from __future__ import annotations

from http import HTTPStatus


def said_of(name: str, error: str | None, status: int | None) -> tuple[str, str, bool]:
    """What happened, what it means, and whether another address may help. error: an ErrorClass; status: of HTTP."""
    match error:
        case "status":
            return _status_words(name, status)
        case "connect":
            return (
                f"{name} cannot be reached: nobody answers at its address.",
                "Its server is down, or the address is wrong. Correct the address here, or send again once the server "
                "is up.",
                True,
            )
        case "dns":
            return (
                f"The name in {name}'s address does not exist.",
                "The address is misspelt, or its domain is gone. Correct it here, then send again.",
                True,
            )
        case "tls":
            return (
                f"No secure connection to {name} is possible.",
                "Its certificate is not valid, or it does not speak TLS. They have to correct that; then send again.",
                True,
            )
        case "timeout":
            return (
                f"{name} takes too long to answer.",
                "It was called each time and did not answer before the time limit. Send again once it is fast enough.",
                False,
            )
        case "reset":
            return (
                f"{name} breaks the connection off before it has answered.",
                "Its server, or something in front of it, hangs up. They have to correct that; then send again.",
                False,
            )
        case "guard":
            return (
                f"{name}'s address is not allowed: it leads into an internal network, or is not https or on a port as "
                "the settings of this service want it.",
                "Each attempt says which. Give it another address here. Is this one meant? Whoever runs this service "
                "can allow it with the settings NOTIFIER_EGRESS__ALLOW, HTTPS_ONLY and PORTS.",
                True,
            )
        case "too-large":
            return (
                f"{name}'s answer is too large to be read.",
                "The head of an answer may have 100 headers and 32 KiB. They have to correct that; then send again.",
                False,
            )
        case "wrong-answer":
            return (
                f"{name} answers, but not with the words that count as an acknowledgement.",
                "Either its server does not say what was agreed, or another rule was agreed: see Settings on its page.",
                False,
            )
        case "callback":
            return "Your own callback failed.", "Correct it, then send again.", False
    return f"{name} did not acknowledge them.", "Every attempt of their ladder failed.", False


def _status_words(name: str, status: int | None) -> tuple[str, str, bool]:
    said = phrase(status)
    match status:
        case None:
            return f"{name}'s server answers with an error.", "They have to correct that; then send again.", False
        case 401 | 403:
            return (
                f"{name}'s server refuses the calls: it answers {said}.",
                "As a rule it does not accept their signature: it has another secret than this service. Compare them "
                "(or make a new one under Secrets on its page), then send again.",
                False,
            )
        case 404 | 405:
            return (
                f"{name}'s server knows no such page: it answers {said}.",
                "The path of the address is wrong, or was changed. Correct the address here, then send again.",
                True,
            )
        case 429:
            return (
                f"{name}'s server finds that it is called too often: it answers {said}.",
                "Set a rate on its page that it can bear, then send again.",
                False,
            )
        case _ if 300 <= status < 400:
            return (
                f"{name}'s address has moved: it answers {said}.",
                "Redirects are not followed, for safety. Write the new address here, then send again.",
                True,
            )
        case _ if status >= 500:
            return (
                f"{name}'s server has a fault: it answers {said}.",
                "They have to correct that, or the address is the wrong one. Test it on the merchant's page; when it "
                "is well again, send again.",
                True,
            )
    return f"{name}'s server refuses them: it answers {said}.", "They have to correct that; then send again.", True


_BRIEFLY = {
    "connect": "nobody answered at its address",
    "dns": "the name in its address does not exist",
    "tls": "no secure connection was possible",
    "timeout": "it took too long to answer",
    "reset": "it broke the connection off",
    "guard": "its address is not allowed",
    "too-large": "its answer was too large",
    "status": "its server answered with an error",
    "wrong-answer": "it did not answer with the agreed words",
    "callback": "your own callback failed",
}


def briefly(error: str) -> str:
    """What happened, as a part of a sentence. error: an ErrorClass."""
    return _BRIEFLY.get(error, error)


def phrase(status: int | None) -> str:
    """`503 Service Unavailable`; the number alone where it has no name."""
    try:
        return f"{status} {HTTPStatus(int(status or 0)).phrase}"
    except ValueError:
        return str(status)
