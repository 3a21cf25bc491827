"""Whether an address leads nowhere but to this machine."""

import ipaddress


def is_loopback(host: str) -> bool:
    """True of localhost and of the addresses of the loopback interface, such as 127.0.0.1 and ::1.

    Example:
        >>> is_loopback("127.0.0.2"), is_loopback("0.0.0.0")
        (True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
