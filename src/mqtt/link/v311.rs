//! MQTT 3.1.1: no expiry, no reasons, no limits told.

use rumqttc::{
    AsyncClient, Event, EventLoop, LastWill, MqttOptions, NetworkOptions, Outgoing, Packet, QoS,
    SubscribeFilter, SubscribeReasonCode, TlsConfiguration, Transport,
};

use super::{Full, INCOMING_BYTES, LinkEvent, LinkOptions, Message, OUTGOING_BYTES, Received, WINDOW};
use crate::mqtt::failure::LinkFailure;

pub(super) fn options(given: LinkOptions) -> MqttOptions {
    let mut options = MqttOptions::new(given.client_id, given.host, given.port);
    options.set_keep_alive(given.keep_alive);
    options.set_clean_session(true);
    options.set_inflight(WINDOW);
    options.set_max_packet_size(INCOMING_BYTES as usize, OUTGOING_BYTES);
    options.set_last_will(LastWill::new(given.will_topic, "offline", QoS::AtLeastOnce, true));
    if let Some(login) = given.login {
        options.set_credentials(login.user.as_str(), login.password.as_str());
    }
    if let Some(tls) = given.tls {
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls)));
    }
    options
}

pub(super) fn network_options() -> NetworkOptions {
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    network
}

pub(super) fn publish(client: &AsyncClient, message: &Message) -> Result<(), Full> {
    let qos = if message.acknowledged { QoS::AtLeastOnce } else { QoS::AtMostOnce };
    client
        .try_publish(message.topic.as_str(), qos, message.retained, message.payload.clone())
        .map_err(|_| Full)
}

pub(super) fn subscribe(client: &AsyncClient, filters: &[String]) -> Result<(), Full> {
    let filters = filters.iter().map(|filter| SubscribeFilter::new(filter.clone(), QoS::AtLeastOnce));
    client.try_subscribe_many(filters).map_err(|_| Full)
}

pub(super) async fn next(events: &mut EventLoop) -> Result<Option<LinkEvent>, LinkFailure> {
    let event = events.poll().await.map_err(|error| LinkFailure::from_v311(&error))?;
    Ok(match event {
        Event::Incoming(Packet::ConnAck(_)) => {
            Some(LinkEvent::Connected { window: WINDOW, packet_bytes: OUTGOING_BYTES })
        }
        Event::Incoming(Packet::SubAck(answer)) => {
            let granted =
                answer.return_codes.iter().all(|code| matches!(code, SubscribeReasonCode::Success(_)));
            Some(LinkEvent::Subscribed(granted))
        }
        Event::Incoming(Packet::PubAck(answer)) => Some(LinkEvent::Acknowledged(answer.pkid, None)),
        Event::Incoming(Packet::Publish(publish)) => Some(LinkEvent::Received(Received {
            topic: publish.topic,
            payload: publish.payload.to_vec(),
            retained: publish.retain,
            response_topic: None,
            correlation: None,
        })),
        Event::Outgoing(Outgoing::Publish(packet)) => Some(LinkEvent::Sent(packet)),
        Event::Outgoing(Outgoing::Disconnect) => Some(LinkEvent::Disconnected),
        _ => None,
    })
}
