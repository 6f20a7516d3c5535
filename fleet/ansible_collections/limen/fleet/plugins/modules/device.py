"""Documentation of the action plugin of the same name; nothing of it runs on a device."""

DOCUMENTATION = r"""
module: device
short_description: Ask a limen device for one thing, over SSH
description:
  - Runs C(ssh HOST VERB) on the controller, with pinned host keys and without any question, and takes the device's
    answer, one JSON object. The device needs the package C(limen-deploy), and neither Python nor a shell.
  - Where the connection is lost during a change, it waits for the device to come back and tells what became of the
    change there.
options:
  verb:
    description: What to ask for.
    type: str
    required: true
    choices: [status, health, logs, receive, install, rollback, recover, config-put, certificate-put, gallery-get,
              gallery-put]
  args:
    description: Words after the verb. Size and hash of what is sent are added by the plugin.
    type: list
    elements: str
    default: []
  src:
    description: File to send (C(receive), C(certificate-put), C(gallery-put), C(config-put)).
    type: path
  content:
    description: Text to send in place of a file (C(config-put), C(certificate-put)).
    type: str
  dest:
    description: File to write what the device sends into (C(gallery-get)), with mode 0600.
    type: path
  recovery_key:
    description: What the backup of C(gallery-put) is encrypted under.
    type: str
  timeout:
    description: Seconds that the verb may take, and that a device may be away while it starts anew.
    type: int
    default: 600
author:
  - The limen developers
"""

EXAMPLES = r"""
- name: Look at a door
  limen.fleet.device:
    verb: status
"""

RETURN = r"""
answer:
  description: The device's answer.
  type: dict
  returned: always, when there was one
"""
