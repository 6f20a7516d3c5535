"""Asks a limen device for one thing over SSH and takes its answer, one JSON object.

Nothing of Ansible runs on the device: it has one program that takes verbs, and no shell. So this is an action plugin,
which runs on the controller, and not a module.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
from typing import IO, Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

# They change the device. Where the connection is lost meanwhile, the change goes on there or is taken back there.
CHANGES = {"install", "rollback", "recover", "config-put", "certificate-put", "gallery-put"}
SENDS = {"receive", "config-put", "certificate-put", "gallery-put"}
VERBS = CHANGES | SENDS | {"status", "health", "logs", "gallery-get"}
# What ssh ends with when it is ssh that failed.
SSH_FAILED = 255
BUSY = 5
LARGEST_ANSWER = 4 << 20


class Unreachable(Exception):
    """The device did not answer, or is not the one whose key is pinned."""


class Device:
    """One device, as ssh reaches it."""

    def __init__(self, variables: dict[str, Any]) -> None:
        def needed(name: str) -> str:
            value = variables.get(name)
            if not value:
                raise AnsibleActionFail(f"the inventory does not say {name}")
            return os.path.expanduser(str(value))

        known_hosts = needed("limen_fleet_known_hosts")
        identity = needed("limen_fleet_identity_file")
        for path in (known_hosts, identity):
            if not os.path.isfile(path):
                raise AnsibleActionFail(f"there is no file {path}")
        address = str(variables.get("ansible_host") or variables["inventory_hostname"])
        if address.startswith("-"):
            raise AnsibleActionFail(f"{address!r} is no address of a device")
        options = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": known_hosts,
            "GlobalKnownHostsFile": "/dev/null",
            "UpdateHostKeys": "no",
            "VerifyHostKeyDNS": "no",
            "IdentitiesOnly": "yes",
            "IdentityFile": identity,
            "PreferredAuthentications": "publickey",
            "ForwardAgent": "no",
            "ForwardX11": "no",
            "ControlMaster": "no",
            "ControlPath": "none",
            "RequestTTY": "no",
            "ConnectTimeout": "10",
            "ServerAliveInterval": "15",
            "ServerAliveCountMax": "4",
            "LogLevel": "ERROR",
        }
        self.command = ["ssh", "-F", "none"]
        for name, value in options.items():
            self.command += ["-o", f"{name}={value}"]
        self.command += [
            "-p",
            str(int(variables.get("ansible_port") or 22)),
            "-l",
            str(variables.get("limen_fleet_user") or "limen-deploy"),
            "--",
            address,
        ]

    def ask(
        self, words: list[str], timeout: float, source: IO[bytes] | None = None, head: bytes = b""
    ) -> tuple[int, bytes]:
        """Runs one verb. What is sent goes through ssh's own descriptor, so that size is no matter of memory."""
        stdin = subprocess.PIPE if head else (source or subprocess.DEVNULL)
        with subprocess.Popen(
            [*self.command, " ".join(words)], stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            try:
                if head:
                    # A key and a backup: as one, for the end of the input is the end of the backup.
                    whole = head + (source.read() if source else b"")
                    out, said = process.communicate(whole, timeout=timeout)
                else:
                    out, said = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired as expired:
                process.kill()
                raise Unreachable(f"no answer to {words[0]} within {timeout:.0f} s") from expired
        if process.returncode == SSH_FAILED:
            raise Unreachable(said.decode(errors="replace").strip() or "ssh failed")
        return process.returncode, out

    def answer(self, words: list[str], timeout: float, **sending: Any) -> tuple[int, dict[str, Any]]:
        """Runs one verb whose answer is JSON."""
        code, out = self.ask(words, timeout, **sending)
        return code, parse(out, code)


def parse(out: bytes, code: int) -> dict[str, Any]:
    """The device's object. What it prints is no more trusted than any input."""
    try:
        if len(out) > LARGEST_ANSWER:
            raise ValueError("too long")
        answer = json.loads(out)
        if not isinstance(answer, dict) or not isinstance(answer.get("message"), str):
            raise ValueError("no object with a message")
    except ValueError as error:
        head = out[:200].decode(errors="replace")
        raise AnsibleActionFail(f"the device's answer is not that of limen-deploy ({error}), exit code {code}: {head}") from error
    return answer


def after_the_loss(device: Device, before: dict[str, Any], lost: Unreachable, timeout: float) -> tuple[int, dict[str, Any]]:
    """What became of a change whose connection was lost: it goes on there, or it was taken back at the next start."""
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        time.sleep(2)
        try:
            _, status = device.answer(["status"], 60)
        except Unreachable as still:
            lost = still
            continue
        if status.get("busy"):
            continue
        if status.get("interrupted"):
            code, recovered = device.answer(["recover"], timeout)
            if code != BUSY:
                return 3 if code == 0 else code, recovered
            continue
        last = status.get("last")
        if last and last != before.get("last"):
            if last.get("reboot"):
                return after_the_restart(device, before, last, until - time.monotonic())
            if last.get("verb") == "recover":
                return 3, last
            return 0 if last.get("ok") else 1, last
        return 1, {"ok": False, "message": f"the connection was lost before the change began: {lost}"}
    raise Unreachable(f"the connection was lost during the change, and the device has not come back: {lost}")


def after_the_restart(
    device: Device, before: dict[str, Any], answer: dict[str, Any], timeout: float
) -> tuple[int, dict[str, Any]]:
    """An image starts from its other slot now, proves itself there and marks it good, or comes back from this one."""
    until = time.monotonic() + timeout
    seen = "the device has not come back"
    code = 1
    while time.monotonic() < until:
        time.sleep(2)
        try:
            _, status = device.answer(["status"], 60)
        except Unreachable as away:
            seen = str(away)
            continue
        slot, former = status.get("slot") or {}, before.get("slot") or {}
        if status.get("boot") == before.get("boot"):
            seen = "the device has not started anew"
        elif not slot.get("booted"):
            seen = "RAUC on the device does not say which slot it runs"
        elif slot["booted"] == former.get("booted"):
            last = status.get("last") or {}
            reason = last["message"] if last.get("verb") == "recover" else "the new slot did not prove itself"
            if status.get("healthy") and not status.get("interrupted"):
                return 3, {**status, "ok": False, "message": f"{reason}; the device is back in the former slot, and well"}
            # Well may take a while after a start; that it never gets there is worse than to have come back.
            code, seen = 4, f"{reason}; the device is back in the former slot, and not well: {status.get('why')}"
        # The device's health alone is not enough: it may yet fail its self-test and go back.
        elif status.get("healthy") and slot.get("proved"):
            return 0, {**status, "message": f"{status.get('limen')} has proved itself in slot {slot['booted']}", "changed": True}
        else:
            seen = f"the new slot is not marked good yet: {status.get('why') or 'well'}"
    return code, {**answer, "ok": False, "message": f"after {timeout:.0f} s: {seen}"}


class ActionModule(ActionBase):
    """`limen.fleet.device`."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(
            argument_spec={
                "verb": {"type": "str", "required": True, "choices": sorted(VERBS)},
                "args": {"type": "list", "elements": "str", "default": []},
                "src": {"type": "path"},
                "content": {"type": "str", "no_log": True},
                "dest": {"type": "path"},
                "recovery_key": {"type": "str", "no_log": True},
                "timeout": {"type": "int", "default": 600},
            },
            mutually_exclusive=[("src", "content")],
        )
        verb, timeout = arguments["verb"], arguments["timeout"]
        device = Device(task_vars or {})
        began = time.monotonic()
        try:
            if verb == "gallery-get":
                code, answer = fetch(device, arguments["dest"], timeout)
            else:
                code, answer = self.exchange(device, verb, arguments, timeout)
        except Unreachable as unreachable:
            result.update(unreachable=True, msg=str(unreachable), verb=verb)
            return result
        result.update(
            verb=verb,
            answer=answer,
            code=code,
            msg=answer["message"],
            failed=code != 0,
            changed=bool(answer.get("changed", verb in ("receive", "gallery-get") and code == 0)),
            took_s=round(time.monotonic() - began, 1),
        )
        return result

    def exchange(self, device: Device, verb: str, arguments: dict[str, Any], timeout: float) -> tuple[int, dict[str, Any]]:
        """One verb with what belongs to it."""
        words = [verb, *arguments["args"]]
        source: IO[bytes] | None = None
        head = b""
        before: dict[str, Any] = {}
        try:
            if verb in SENDS:
                source = open_source(arguments)
                if verb == "receive":
                    words.append(os.path.basename(arguments["src"]))
                words += measured(source)
                if verb == "gallery-put":
                    if not arguments["recovery_key"]:
                        raise AnsibleActionFail("gallery-put takes the recovery_key of the device that the gallery is from")
                    head = arguments["recovery_key"].encode() + b"\n"
            if verb in CHANGES:
                _, before = device.answer(["status"], 60)
            try:
                code, answer = device.answer(words, timeout, source=source, head=head)
                if code == 0 and answer.get("reboot"):
                    return after_the_restart(device, before, answer, timeout)
                return code, answer
            except Unreachable as lost:
                if verb not in CHANGES:
                    raise
                return after_the_loss(device, before, lost, timeout)
        finally:
            if source:
                source.close()


def open_source(arguments: dict[str, Any]) -> IO[bytes]:
    """What is sent, as a file that ssh can read by itself."""
    if arguments["src"]:
        try:
            return open(arguments["src"], "rb")
        except OSError as error:
            raise AnsibleActionFail(f"cannot read {arguments['src']}: {error.strerror}") from error
    if arguments["content"] is None:
        raise AnsibleActionFail("this verb sends something: give src or content")
    # In memory: it may hold a password or a private key.
    handle = os.memfd_create("limen-fleet")
    file = os.fdopen(handle, "w+b")
    file.write(arguments["content"].encode())
    file.flush()
    return file


def measured(source: IO[bytes]) -> list[str]:
    """Size and hash, after which the file stands at its beginning."""
    source.seek(0)
    digest = hashlib.file_digest(source, "sha256").hexdigest()
    size = source.tell()
    source.seek(0)
    return [str(size), digest]


def fetch(device: Device, destination: str | None, timeout: float) -> tuple[int, dict[str, Any]]:
    """A backup of the gallery: a line about it, then the file."""
    if not destination:
        raise AnsibleActionFail("gallery-get writes into a file: give dest")
    code, out = device.ask(["gallery-get"], timeout)
    line, _, body = out.partition(b"\n")
    answer = parse(line, code)
    if code != 0:
        return code, answer
    if len(body) != answer.get("size") or hashlib.sha256(body).hexdigest() != answer.get("sha256"):
        return 1, {**answer, "ok": False, "message": "the gallery did not arrive whole"}
    part = f"{destination}.part"
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, destination)
    return 0, {**answer, "message": f"{answer.get('subjects')} subjects in {destination}"}
