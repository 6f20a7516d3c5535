//! The broker and the web server's port.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::time::Duration;

use super::{Check, Finding, within};
use crate::config::Config;

/// For a name server, and then for each address.
const PATIENCE: Duration = Duration::from_secs(3);
/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 4;

/// Goes on where a TCP connection ends: TLS, user and password. Says what it found, or why not.
pub type Login<'a> = &'a dyn Fn(&Config) -> Result<String, String>;

/// Whether the broker can be reached: its name, a connection, and what `login` says.
pub fn check_broker(config: &Config, login: Login<'_>) -> Finding {
    let mqtt = &config.mqtt;
    let Some(host) = mqtt.host.clone() else {
        return Finding::ok(Check::Broker, "none is configured (mqtt.host)");
    };
    let port = mqtt.port.unwrap_or(if mqtt.tls { 8883 } else { 1883 });
    let Ok(port) = u16::try_from(port) else {
        return Finding::problem(Check::Broker, format!("{port} is no port"), "correct mqtt.port");
    };
    let problem = |found: String, advice: &str| Finding::problem(Check::Broker, found, advice);
    let addresses = match resolve(&host, port) {
        Some(Ok(addresses)) if !addresses.is_empty() => addresses,
        Some(Ok(_)) => {
            return problem(format!("{host} has no address"), "correct mqtt.host, or its entry in DNS");
        }
        Some(Err(error)) => {
            return problem(
                format!("the name {host} cannot be resolved: {error}"),
                "correct mqtt.host, or give the broker's address there; `resolvectl query` shows what the name server says",
            );
        }
        None => {
            return problem(
                format!("no name server has told the address of {host} within {} s", PATIENCE.as_secs()),
                "check the network, or give the broker's address in mqtt.host",
            );
        }
    };
    let mut failed = Vec::new();
    for address in addresses.iter().take(MAX_ADDRESSES) {
        match TcpStream::connect_timeout(address, PATIENCE) {
            Ok(_) => return logged_in(config, *address, login),
            Err(error) => failed.push((address, error)),
        }
    }
    let refused = failed.iter().any(|(_, error)| error.kind() == ErrorKind::ConnectionRefused);
    let failed: Vec<String> = failed.iter().map(|(address, error)| format!("{address}: {error}")).collect();
    problem(
        format!("the broker does not take a connection: {}", failed.join("; ")),
        if refused {
            "start the broker there; one that listens on its own machine only (mosquitto without a `listener` line) \
             refuses others"
        } else {
            "check that the machine is on, the network between, and its firewall; then mqtt.host and mqtt.port"
        },
    )
}

fn resolve(host: &str, port: u16) -> Option<std::io::Result<Vec<SocketAddr>>> {
    let host = host.to_owned();
    within(PATIENCE, move || Ok((host.as_str(), port).to_socket_addrs()?.collect()))
}

fn logged_in(config: &Config, address: SocketAddr, login: Login<'_>) -> Finding {
    match login(config) {
        Ok(found) => Finding::ok(Check::Broker, format!("{address}: {found}")),
        Err(reason) => Finding::problem(
            Check::Broker,
            format!("{address} takes a connection, but: {reason}"),
            "check mqtt.credentials_file, mqtt.tls and mqtt.ca_file, and the broker's own log",
        ),
    }
}

/// Whether the web server could have its port, or has it already.
pub fn check_http(config: &Config) -> Finding {
    let Some(listen) = config.http.address() else {
        return Finding::ok(Check::Http, "none is configured (http.listen)");
    };
    let mut open = match (listen.ip().is_loopback(), config.http.plain) {
        (true, _) => String::new(),
        (false, false) => "; other machines need TLS and an account".to_owned(),
        (false, true) => "; other machines need an account, but not TLS (http.plain)".to_owned(),
    };
    // Of a device that has not run yet there is none.
    if let Some(fingerprint) = crate::http::stored_fingerprint(config) {
        open.push_str(&format!("; its certificate has the SHA-256 fingerprint {fingerprint}"));
    }
    match TcpListener::bind(listen) {
        Ok(_) => Finding::ok(Check::Http, format!("{listen} is free for the web server{open}")),
        Err(error) if error.kind() == ErrorKind::AddrInUse && is_limen(listen) => {
            Finding::ok(Check::Http, format!("a running limen answers on {listen}{open}"))
        }
        Err(error) => {
            let (found, advice) = crate::http::refused(listen, &error);
            Finding::problem(Check::Http, found, advice)
        }
    }
}

/// Whether what listens there answers as limen does.
fn is_limen(listen: SocketAddr) -> bool {
    let ask = move || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&listen, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: limen\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.take(64 << 10).read_to_string(&mut answer)?;
        Ok(answer)
    };
    // Whatever does not answer so is somebody else.
    within(PATIENCE * 2, move || ask().unwrap_or_default())
        .and_then(|answer| {
            let (head, body) = answer.split_once("\r\n\r\n")?;
            // On an address of the network it takes us for another machine, and sends us to TLS.
            let to_tls = head.starts_with("HTTP/1.1 308") && head.contains("https://limen/health");
            let health = serde_json::from_str::<serde_json::Value>(body).unwrap_or_default();
            Some(to_tls || health["parts"]["recognition"].is_object())
        })
        .unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    fn with_broker(host: &str, port: Option<u16>) -> Config {
        let mut config = Config::default();
        config.mqtt.host = Some(host.to_owned());
        config.mqtt.port = port.map(u32::from);
        config
    }

    #[test]
    fn broker_is_asked_to_let_in_once_it_takes_connections() {
        let broker = TcpListener::bind("127.0.0.1:0").unwrap();
        let config = with_broker("127.0.0.1", Some(broker.local_addr().unwrap().port()));
        assert_eq!(check_broker(&config, &|_| Ok("let in".to_owned())).level, Level::Ok);
        let wrong = check_broker(&config, &|_| Err("not authorised".to_owned()));
        assert!(wrong.level == Level::Problem && wrong.found.contains("not authorised"), "{wrong:?}");
        drop(broker);
        let away = check_broker(&config, &|_| panic!("nobody to log in to"));
        assert!(away.level == Level::Problem && away.advice.unwrap().contains("start the broker"));
    }

    #[test]
    fn name_that_cannot_exist_is_a_problem_of_the_name() {
        let config = with_broker("broker.invalid", None);
        let finding = check_broker(&config, &|_| panic!("nobody to log in to"));
        assert_eq!(finding.level, Level::Problem);
        assert!(finding.found.contains("broker.invalid"), "{finding:?}");
    }

    #[test]
    fn port_of_somebody_else_is_a_problem_and_a_free_one_is_not() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = other.local_addr().unwrap().to_string();
        let mut config = Config::default();
        config.http.listen = Some(address.clone());
        // It says something, but not what limen would say.
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = other.accept().unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n{}").unwrap();
        });
        let finding = check_http(&config);
        assert!(finding.level == Level::Problem && finding.found.contains(&address), "{finding:?}");
        thread.join().unwrap();
        assert_eq!(check_http(&config).level, Level::Ok);
    }
}
