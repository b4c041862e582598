"""What cannot be mended from here, and should be known."""

from hftd.control.check.files import Host
from hftd.control.check.rows import INFO, Row, boot


def machine(host: Host) -> list[Row]:
    """What cannot be mended from here, and should be known."""
    rows = []
    at = "sys/devices/system/cpu/vulnerabilities"
    active = sorted(name for name in host.names(at) if host.read(f"{at}/{name}").startswith("Mitigation"))
    if host.names(at):
        said = ", ".join(active) or "none active"
        rows.append(Row("machine", "kernel mitigations", INFO, said, "a choice: they make each system call dearer",
                        f"{boot('mitigations=off')}  (a host of one's own only)" if active else ""))  # fmt: skip
    if "hypervisor" in host.flags():
        rows.append(Row("machine", "virtual machine", INFO, "yes: the hypervisor may take a core without a word", "bare metal"))
    return rows
