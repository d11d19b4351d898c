//! A soft RoCE device on a network interface: `rdma link add` and `rdma link delete`, as
//! netlink messages.
#![forbid(unsafe_code)]

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket,
};
use nix::sys::time::TimeVal;

use super::effect::State;
use super::files::Host;
use crate::error::Unavailable;

/// The name of the device.
pub const NAME: &str = "pinwatch0";

/// `RDMA_NL_GET_TYPE(RDMA_NL_NLDEV, RDMA_NLDEV_CMD_*)`.
const GET: u16 = (5 << 10) + 1;
const NEW_LINK: u16 = (5 << 10) + 3;
const DELETE_LINK: u16 = (5 << 10) + 4;

/// `RDMA_NLDEV_ATTR_*`.
const DEVICE_INDEX: u16 = 1;
const DEVICE_NAME: u16 = 2;
const INTERFACE_NAME: u16 = 51;
const LINK_TYPE: u16 = 65;

/// Adds the device to a network interface.
pub fn add(interface: &str) -> anyhow::Result<()> {
    let message = Message::new(NEW_LINK, libc::NLM_F_ACK)
        .text(DEVICE_NAME, NAME)
        .text(LINK_TYPE, "rxe")
        .text(INTERFACE_NAME, interface);
    ask(&message, |_, _| ()).map_err(|errno| why_not(interface, errno))
}

fn why_not(interface: &str, errno: Errno) -> anyhow::Error {
    Unavailable::because(match errno {
        Errno::EPROTONOSUPPORT => "this kernel has no RDMA: load the module rdma_rxe".to_owned(),
        Errno::EINVAL | Errno::EOPNOTSUPP => format!(
            "the kernel refused a soft RoCE device on {interface}: load the module rdma_rxe, or try another interface"
        ),
        // Its checksum, up to 6.14.
        Errno::ENOENT => {
            "soft RoCE lacks the kernel's crc32: load the module crc32_generic".to_owned()
        }
        Errno::EPERM => "a soft RoCE device needs root (CAP_NET_ADMIN)".to_owned(),
        Errno::EEXIST | Errno::ENFILE => format!(
            "{interface} has a soft RoCE device already: give its name to --device (`rdma link` shows it)"
        ),
        errno => format!("the kernel refused a soft RoCE device on {interface}: {errno}"),
    })
}

pub fn is_interface(name: &str) -> bool {
    !name.contains('/') && Path::new("/sys/class/net").join(name).exists()
}

pub fn state(host: &Host) -> State {
    if exists(host) {
        State::Ours
    } else {
        State::AsBefore
    }
}

pub fn exists(host: &Host) -> bool {
    host.path(Path::new("sys/class/infiniband").join(NAME))
        .exists()
}

/// Deletes the device by its number: the kernel takes no name here.
pub fn delete() -> anyhow::Result<()> {
    let mut index = None;
    ask(&Message::new(GET, libc::NLM_F_DUMP), |kind, payload| {
        let device = (kind == GET).then(|| device(payload)).flatten();
        if let Some((number, name)) = device
            && name == NAME.as_bytes()
        {
            index = Some(number);
        }
    })?;
    let Some(index) = index else { return Ok(()) };
    ask(
        &Message::new(DELETE_LINK, libc::NLM_F_ACK).number(DEVICE_INDEX, index),
        |_, _| (),
    )?;
    Ok(())
}

/// Seconds until a missing answer is an error (EAGAIN).
const ANSWER_WITHIN: i64 = 5;

/// A request: a header, then attributes.
struct Message(Vec<u8>);

const HEADER: usize = 16;

impl Message {
    fn new(kind: u16, flags: i32) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(((libc::NLM_F_REQUEST | flags) as u16).to_ne_bytes());
        bytes.resize(HEADER, 0);
        Self(bytes)
    }

    fn text(self, kind: u16, text: &str) -> Self {
        self.attribute(kind, &[text.as_bytes(), &[0]].concat())
    }

    fn number(self, kind: u16, number: u32) -> Self {
        self.attribute(kind, &number.to_ne_bytes())
    }

    fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        self.0.extend((4 + value.len() as u16).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// The message with its length at the start.
    fn bytes(&self) -> Vec<u8> {
        let length = self.0.len() as u32;
        [&length.to_ne_bytes(), &self.0[4..]].concat()
    }
}

/// Sends a request and calls `each` with the kind and payload of every message of the answer.
fn ask(message: &Message, mut each: impl FnMut(u16, &[u8])) -> Result<(), Errno> {
    let socket: OwnedFd = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRDMA,
    )?;
    setsockopt(&socket, ReceiveTimeout, &TimeVal::new(ANSWER_WITHIN, 0))?;
    send(socket.as_raw_fd(), &message.bytes(), MsgFlags::empty())?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        for (kind, payload) in messages(&buffer[..length]) {
            match i32::from(kind) {
                libc::NLMSG_DONE => return Ok(()),
                libc::NLMSG_ERROR => {
                    return match number(payload).unwrap_or(0) as i32 {
                        0 => Ok(()),
                        errno => Err(Errno::from_raw(-errno)),
                    };
                }
                _ => each(kind, payload),
            }
        }
    }
}

/// Kind and payload of each received message.
fn messages(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    records(bytes, HEADER, |record| {
        number(record).map(|length| length as usize)
    })
}

/// Kind and payload of each attribute.
fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    records(bytes, 4, |record| half(record).map(usize::from))
}

/// Kind and payload of each record. A record starts with a header of `header` bytes that contains its length and kind,
/// at a multiple of four bytes.
fn records(
    mut rest: &[u8],
    header: usize,
    length: fn(&[u8]) -> Option<usize>,
) -> impl Iterator<Item = (u16, &[u8])> {
    let kind_at = if header == HEADER { 4 } else { 2 };
    std::iter::from_fn(move || {
        let length = length(rest)?;
        let kind = half(rest.get(kind_at..)?)?;
        let payload = rest.get(header..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, payload))
    })
}

/// Number and name of a device from its attributes.
fn device(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let find = |wanted| attributes(bytes).find(|(kind, _)| *kind == wanted);
    let (_, index) = find(DEVICE_INDEX)?;
    let (_, name) = find(DEVICE_NAME)?;
    Some((number(index)?, name.strip_suffix(&[0]).unwrap_or(name)))
}

fn number(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

fn half(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_a_round_trip() {
        let message = Message::new(GET, libc::NLM_F_ACK)
            .number(DEVICE_INDEX, 7)
            .text(DEVICE_NAME, "rxe0")
            .text(LINK_TYPE, "rxe");
        let twice = [message.bytes(), message.bytes()].concat();
        let read: Vec<_> = messages(&twice).collect();
        assert_eq!(read.len(), 2);
        let (kind, payload) = read[1];
        assert_eq!(kind, GET);
        assert_eq!(device(payload), Some((7, b"rxe0".as_slice())));
        assert_eq!(
            attributes(payload).last(),
            Some((LINK_TYPE, b"rxe\0".as_slice()))
        );
    }

    #[test]
    fn a_message_without_attributes_has_its_length() {
        assert_eq!(
            number(&Message::new(GET, libc::NLM_F_DUMP).bytes()),
            Some(16)
        );
    }

    #[test]
    fn truncated_answers_end_early() {
        let bytes = Message::new(GET, 0).text(DEVICE_NAME, "rxe0").bytes();
        for cut in 0..bytes.len() {
            assert_eq!(messages(&bytes[..cut]).count(), 0);
        }
        assert_eq!(messages(&[0; 64]).count(), 0);
        assert_eq!(device(&[255; 16]), None);
    }
}
