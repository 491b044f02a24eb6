"""Certificates and keys for tests of TLS, made by openssl(1)."""

from support import run

NAMES = "subjectAltName=DNS:localhost,IP:127.0.0.1"
KEY = "0123456789abcdef0123456789abcdef"


def openssl(folder, *arguments):
    run("openssl", *arguments, cwd=folder)


def sign(folder, who, subject, days=30, extension=NAMES, authority="ca"):
    """Makes WHO.pem and WHO.key."""
    openssl(folder, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", f"{who}.key", "-out", f"{who}.csr", "-subj", subject)
    (folder / "ext").write_text(extension)
    openssl(folder, "x509", "-req", "-in", f"{who}.csr", "-CA", f"{authority}.pem", "-CAkey",
            f"{authority}.key", "-CAcreateserial", "-out", f"{who}.pem", "-days", str(days),
            "-extfile", "ext")


def make(folder):
    """Folders of credentials in `folder`: both ends' good ones, one for each fault, and keys."""
    for name in ("ca", "ca2"):
        openssl(folder, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}",
                "-days", "30")
    sign(folder, "server", "/CN=localhost")
    sign(folder, "client", "/C=GB/O=Org/CN=alice")
    sign(folder, "expired-server", "/CN=localhost", days=-1)
    sign(folder, "expired-client", "/CN=alice", days=-1)
    sign(folder, "elsewhere-server", "/CN=elsewhere", extension="subjectAltName=DNS:elsewhere")
    sign(folder, "unknown-server", "/CN=localhost", authority="ca2")
    sign(folder, "unknown-client", "/CN=alice", authority="ca2")
    made = {"good": ["server", "client"], "none": []}
    for fault in ("expired", "unknown"):
        made[fault] = [f"{fault}-server", f"{fault}-client"]
    made["elsewhere"] = ["elsewhere-server"]
    for name, parts in made.items():
        (folder / name).mkdir()
        for part in ["ca", *parts]:
            end = part.split("-")[-1]
            for suffix, kind in ((".pem", "-cert.pem"), (".key", "-key.pem")):
                if part != "ca" or kind == "-cert.pem":
                    (folder / name / (end + kind)).write_bytes((folder / (part + suffix)).read_bytes())
    for name, key in (("keys", KEY), ("other-keys", KEY[::-1])):
        (folder / name).mkdir()
        (folder / name / "keys.psk").write_text(f"alice:{key}\n")
        (folder / name / "keys.psk").chmod(0o600)
