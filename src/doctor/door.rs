//! The door: whether its lines are there.

use super::{Check, Finding};
use crate::config::Config;
use crate::door::gpio::{FoundLine, LineSpec};

/// The lines of the configuration among those of this machine. Nothing is taken or switched.
pub fn check_door(config: &Config, there: &[FoundLine]) -> Finding {
    let configured: Vec<_> = config.door_lines().collect();
    if configured.is_empty() {
        return Finding::ok(Check::Door, "no line is configured (door.relay)");
    }
    let is_there =
        |line: &str| LineSpec::parse(line).is_ok_and(|spec| there.iter().any(|line| spec.is(line)));
    let missing: Vec<String> = configured
        .iter()
        .filter(|(_, line)| !is_there(line))
        .map(|(key, line)| format!("door.{key} = {line}"))
        .collect();
    if missing.is_empty() {
        return Finding::ok(Check::Door, format!("{} lines are there", configured.len()));
    }
    let found = format!("there is no such GPIO line: {}", missing.join("; "));
    let advice = if there.is_empty() {
        "no GPIO chip can be opened: the account that limen runs under must be in the group `gpio` \
         (`usermod -aG gpio limen`), and the kernel must have one (`ls /dev/gpiochip*`)"
    } else {
        "`limen door lines` lists those there are, by chip and number and by name"
    };
    Finding::problem(Check::Door, found, advice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn lines_are_found_by_number_and_by_name() {
        let line = |number, name: &str| FoundLine {
            chip: "gpiochip0".to_owned(),
            number,
            name: name.to_owned(),
            used: false,
            consumer: String::new(),
        };
        let there = [line(17, "GPIO17"), line(18, "")];
        let mut config = Config::default();
        assert_eq!(check_door(&config, &there).level, Level::Ok);
        config.door.relay = Some("gpiochip0:18 active-low".to_owned());
        config.door.bell = Some("GPIO17".to_owned());
        assert_eq!(check_door(&config, &there).level, Level::Ok);
        config.door.contact = Some("gpiochip1:17".to_owned());
        let finding = check_door(&config, &there);
        assert!(finding.level == Level::Problem && finding.found.contains("door.contact = gpiochip1:17"));
        assert!(check_door(&config, &[]).advice.unwrap().contains("usermod -aG gpio"));
    }
}
