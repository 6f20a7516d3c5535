//! MQTT 5.

use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnectProperties, Filter, LastWill, Packet, PubAckReason, Publish, PublishProperties,
    SubscribeReasonCode,
};
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use rumqttc::{NetworkOptions, TlsConfiguration, Transport};

use super::{Full, INCOMING_BYTES, LinkEvent, LinkOptions, Message, OUTGOING_BYTES, Received, WINDOW};
use crate::mqtt::failure::LinkFailure;

/// Messages of QoS 1 the broker may send before they are acknowledged.
const RECEIVE_MAXIMUM: u16 = 32;

pub(super) fn options(given: LinkOptions) -> MqttOptions {
    let mut options = MqttOptions::new(given.client_id, given.host, given.port);
    options.set_keep_alive(given.keep_alive);
    options.set_clean_start(true);
    options.set_outgoing_inflight_upper_limit(WINDOW);
    options.set_last_will(LastWill::new(given.will_topic, "offline", QoS::AtLeastOnce, true, None));
    let mut properties = ConnectProperties::new();
    properties.max_packet_size = Some(INCOMING_BYTES);
    properties.receive_maximum = Some(RECEIVE_MAXIMUM);
    options.set_connect_properties(properties);
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    options.set_network_options(network);
    if let Some(login) = given.login {
        options.set_credentials(login.user.as_str(), login.password.as_str());
    }
    if let Some(tls) = given.tls {
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls)));
    }
    options
}

pub(super) fn publish(client: &AsyncClient, message: &Message) -> Result<(), Full> {
    let qos = if message.acknowledged { QoS::AtLeastOnce } else { QoS::AtMostOnce };
    let properties = PublishProperties {
        message_expiry_interval: message.expiry_s,
        correlation_data: message.correlation.clone().map(Into::into),
        ..PublishProperties::default()
    };
    client
        .try_publish_with_properties(
            message.topic.as_str(),
            qos,
            message.retained,
            message.payload.clone(),
            properties,
        )
        .map_err(|_| Full)
}

pub(super) fn subscribe(client: &AsyncClient, filters: &[String]) -> Result<(), Full> {
    let filters = filters.iter().map(|filter| Filter::new(filter, QoS::AtLeastOnce));
    client.try_subscribe_many(filters).map_err(|_| Full)
}

pub(super) async fn next(events: &mut EventLoop) -> Result<Option<LinkEvent>, LinkFailure> {
    let event = events.poll().await.map_err(|error| LinkFailure::from_v5(&error))?;
    Ok(match event {
        Event::Incoming(Packet::ConnAck(answer)) => {
            let limits = answer.properties.as_ref();
            let window = limits.and_then(|limits| limits.receive_max).unwrap_or(WINDOW).min(WINDOW);
            let packet_bytes = limits.and_then(|limits| limits.max_packet_size);
            Some(LinkEvent::Connected {
                window,
                packet_bytes: packet_bytes.map_or(OUTGOING_BYTES, |bytes| bytes as usize),
            })
        }
        Event::Incoming(Packet::SubAck(answer)) => {
            let granted =
                answer.return_codes.iter().all(|code| matches!(code, SubscribeReasonCode::Success(_)));
            Some(LinkEvent::Subscribed(granted))
        }
        Event::Incoming(Packet::PubAck(answer)) => {
            let refused = match answer.reason {
                PubAckReason::Success | PubAckReason::NoMatchingSubscribers => None,
                reason => Some(format!("{reason:?}")),
            };
            Some(LinkEvent::Acknowledged(answer.pkid, refused))
        }
        Event::Incoming(Packet::Publish(publish)) => Some(LinkEvent::Received(received(publish))),
        Event::Outgoing(Outgoing::Publish(packet)) => Some(LinkEvent::Sent(packet)),
        Event::Outgoing(Outgoing::Disconnect) => Some(LinkEvent::Disconnected),
        _ => None,
    })
}

fn received(publish: Publish) -> Received {
    let properties = publish.properties.unwrap_or_default();
    Received {
        topic: String::from_utf8_lossy(&publish.topic).into_owned(),
        payload: publish.payload.to_vec(),
        retained: publish.retain,
        response_topic: properties.response_topic,
        correlation: properties.correlation_data.map(|data| data.to_vec()),
    }
}
