// Tries every route of the API with generated input, good and bad, as the owner and as nobody, against
// the OpenAPI document: no 5xx, and no answer that the document does not know.
//
//   node tests/api/run.mjs          part of `make test`
//   EXAMPLES=200 node tests/api/run.mjs    deeper

import { spawn } from 'node:child_process';
import path from 'node:path';
import { Client, Device, OWNER, portrait, project } from '../browser/harness.mjs';

const examples = process.env.EXAMPLES ?? '12';

// These end what the run itself needs: its session, its account, the program; and one would ask brokers
// that are not on this machine.
const LEFT_OUT = [
  'restart', 'sign_out', 'change_password', 'end_session', 'end_other_sessions', 'remove_user', 'change_user', 'test_broker',
];
// A WebSocket is no request with an answer, and nothing here makes archives: other tests try those.
const OTHERS = ['watch', 'watch_events', 'compare_stream', 'guide_enrolment', 'import_archive'];

function schemathesis(device, headers, leftOut) {
  const arguments_ = [
    'run', `${device.origin}/api/openapi.json`,
    '--checks', 'not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance',
    '--max-examples', examples, '--seed', '4', '--phases', 'examples,coverage,fuzzing',
    '--rate-limit', '40/s', '--request-timeout', '20', '--continue-on-failure', '--warnings', 'off',
    ...headers.flatMap((header) => ['--header', header]),
    ...leftOut.flatMap((id) => ['--exclude-operation-id', id]),
  ];
  return new Promise((resolve) => {
    const child = spawn(path.join(project, '.setup/api/bin/schemathesis'), arguments_, {
      cwd: device.folder, stdio: 'inherit', env: { ...process.env, NO_COLOR: '1' },
    });
    child.on('error', () => resolve(1));
    // Ended by a signal it has no status, and has not finished.
    child.on('exit', (status) => resolve(status ?? 1));
  });
}

const device = await Device.start();
let failed = 0;
try {
  const owner = await Client.owner(device);
  await owner.enrol('Grace Hopper', portrait('grace_hopper_1'));
  console.log('== as nobody');
  failed |= await schemathesis(device, [], OTHERS);
  console.log('== as the owner');
  // The run as nobody may have slowed signing in down; the session is still the first one.
  failed |= await schemathesis(device, [`Cookie: ${owner.cookie}`, `X-CSRF-Token: ${owner.csrf}`], [...OTHERS, ...LEFT_OUT]);
  const still = await owner.call('GET', '/api/session');
  if (still.value?.user?.name !== OWNER.name) throw new Error('the run lost its own session: it tried less than it says');
} finally {
  await device.stop();
}
process.exitCode = failed ? 1 : 0;
