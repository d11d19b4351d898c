//! A soft RoCE device over a network interface, for the time of the load: what `rdma link add` and
//! `rdma link delete` do, in messages of netlink.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use anyhow::Context;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

use crate::Unavailable;

/// What the device is called.
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

/// Deletes the device when dropped.
pub struct Link(());

impl Link {
    pub fn add(interface: &str) -> anyhow::Result<Self> {
        let message = Message::new(NEW_LINK, libc::NLM_F_ACK)
            .text(DEVICE_NAME, NAME)
            .text(LINK_TYPE, "rxe")
            .text(INTERFACE_NAME, interface);
        match ask(&message, |_, _| ()) {
            Ok(()) => Ok(Self(())),
            Err(errno) => Err(Unavailable::because(match errno {
                Errno::EPROTONOSUPPORT => {
                    "this kernel has no RDMA: load the module rdma_rxe".to_owned()
                }
                Errno::EINVAL | Errno::EOPNOTSUPP => format!(
                    "no soft RoCE over {interface}: load the module rdma_rxe, or try another interface"
                ),
                // Its checksum, up to 6.14.
                Errno::ENOENT => {
                    "soft RoCE lacks the kernel's crc32: load the module crc32_generic".to_owned()
                }
                Errno::EPERM => "a soft RoCE device needs root (CAP_NET_ADMIN)".to_owned(),
                Errno::EEXIST | Errno::ENFILE => format!(
                    "{interface} has a soft RoCE device already, or another load made {NAME}: give --device its name"
                ),
                errno => format!("no soft RoCE over {interface}: {errno}"),
            })),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Err(error) = delete() {
            eprintln!("pinwatch load: the RDMA device {NAME} stays: {error:#}");
        }
    }
}

pub fn is_interface(name: &str) -> bool {
    !name.contains('/') && Path::new("/sys/class/net").join(name).exists()
}

/// By its number: the kernel takes no name here.
fn delete() -> anyhow::Result<()> {
    let mut index = None;
    ask(&Message::new(GET, libc::NLM_F_DUMP), |kind, payload| {
        let device = (kind == GET).then(|| device(payload)).flatten();
        if let Some((number, name)) = device
            && name == NAME.as_bytes()
        {
            index = Some(number);
        }
    })?;
    let index = index.context("it is gone already")?;
    ask(
        &Message::new(DELETE_LINK, libc::NLM_F_ACK).number(DEVICE_INDEX, index),
        |_, _| (),
    )?;
    Ok(())
}

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

    /// All of it, with the length in front.
    fn bytes(&self) -> Vec<u8> {
        let length = self.0.len() as u32;
        [&length.to_ne_bytes(), &self.0[4..]].concat()
    }
}

/// Sends a request, and hands the kind and payload of each message of the answer on, until the last.
fn ask(message: &Message, mut each: impl FnMut(u16, &[u8])) -> Result<(), Errno> {
    let socket: OwnedFd = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRDMA,
    )?;
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

/// Kind and payload of each message in what was received.
fn messages(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    records(bytes, HEADER, |record| {
        number(record).map(|length| length as usize)
    })
}

/// Kind and payload of each attribute.
fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    records(bytes, 4, |record| half(record).map(usize::from))
}

/// Records with a length, their kind, and all else that a header of that size has, each on a multiple of four bytes.
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

/// Number and name of a device, from the attributes about it.
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
    fn what_is_written_can_be_read() {
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
    fn a_message_without_attributes_says_its_length() {
        assert_eq!(
            number(&Message::new(GET, libc::NLM_F_DUMP).bytes()),
            Some(16)
        );
    }

    #[test]
    fn cut_off_answers_end_early() {
        let bytes = Message::new(GET, 0).text(DEVICE_NAME, "rxe0").bytes();
        for cut in 0..bytes.len() {
            assert_eq!(messages(&bytes[..cut]).count(), 0);
        }
        assert_eq!(messages(&[0; 64]).count(), 0);
        assert_eq!(device(&[255; 16]), None);
    }
}
