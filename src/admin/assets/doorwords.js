// What the door says, in words.

export const doorReasons = {
  more_probes: 'the face was not seen for long enough', higher_score: 'the face was not like the template surely enough', cooling_down: 'it had just opened for this person',
  too_often: 'it had opened too often within a minute', needs_pin: 'the PIN is missing', needs_pass: 'the pass is missing', needs_face: 'the face is missing',
  pad_not_evaluated: 'attack detection is required, and this device has none', locked_out: 'locked after failures', face_unlock_off: 'face unlock is switched off',
  not_at_this_hour: 'allowed, but not at this hour', clock_not_trusted: 'allowed at some hours, and the clock has not been set since the start', not_admitted: 'no rule is for them',
  expired: 'their time here is over', unknown_person: 'nobody enrolled', wrong_pin: 'wrong PIN', second_factor_missing: 'the second factor did not come in time', too_late: 'the face was captured too long ago',
  storage: 'its use could not be written down', no_policy: 'no policy is in force', pass_malformed: 'the code is no whole pass', pass_forged: 'this device did not make the pass', pass_revoked: 'the pass was taken back',
  pass_not_yet_valid: 'the pass is not valid yet', pass_expired: 'the pass has expired', pass_used_up: 'the pass was used already', pass_stale: 'a picture of a code that has changed meanwhile',
  pass_clock_not_trusted: 'the pass is valid at certain times, and the clock has not been set since the start',
  forced_open: 'opened although nobody was let in', held_open: 'open for too long', tamper: 'the housing was opened',
};
export const doorWays = { face: 'Face', face_and_pin: 'Face and PIN', face_and_pass: 'Face and pass', pin: 'PIN', pass: 'Pass', exit_button: 'Exit button', remote: 'Opened by hand' };
