//! RDMA: a memory region of the buffer, which `ib_umem_get` pins in portions.
//!
//! It uses the driver-independent commands of uverbs, in the two forms that libibverbs uses: inside an ioctl, or written
//! to the device if the kernel lacks that ioctl. It never sends data.

use std::fs::File;
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use anyhow::Context as _;
use nix::errno::Errno;
use nix::request_code_readwrite;

use super::attempt::{Attempt, Pinner};
use crate::error::Unavailable;
use crate::host::rdma_devices;
use crate::memory::buffer::Buffer;
use crate::spec::{Access, page_size};

/// Base pages per long-term pin: one page of pointers.
pub fn pages_per_pin() -> usize {
    page_size() / size_of::<u64>()
}

/// `IB_USER_VERBS_CMD_*`.
const GET_CONTEXT: u32 = 0;
const ALLOC_PD: u32 = 3;
const REG_MR: u32 = 9;
const DEREG_MR: u32 = 13;

const ACCESS_LOCAL_WRITE: u32 = 1;

/// `struct ib_uverbs_attr`. `data` contains input of up to 8 bytes, and the address of longer input and of output.
#[repr(C)]
struct Attribute {
    id: u16,
    len: u16,
    flags: u16,
    reserved: u16,
    data: u64,
}

const MANDATORY: u16 = 1;

/// `struct ib_uverbs_ioctl_hdr` of `UVERBS_METHOD_INVOKE_WRITE`, and its attributes.
#[repr(C)]
struct Invoke {
    length: u16,
    object: u16,
    method: u16,
    attributes: u16,
    reserved: u64,
    driver: u32,
    reserved2: u32,
    request: Attribute,
    response: Attribute,
    command: Attribute,
}

const HEADER: usize = size_of::<Invoke>() - 3 * size_of::<Attribute>();
const UVERBS_OBJECT_DEVICE: u16 = 0;
const UVERBS_METHOD_INVOKE_WRITE: u16 = 0;
const CORE_IN: u16 = 0;
const CORE_OUT: u16 = 1;
const WRITE_CMD: u16 = 2;

/// `enum rdma_driver_id`. An ioctl contains it, and the kernel accepts the one of the device only.
const DRIVERS: Range<u32> = 0..64;

/// The form of the commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Ioctl { driver: u32 },
    Write,
}

/// `struct ib_uverbs_cmd_hdr` and the request.
#[repr(C)]
struct Command<T> {
    command: u32,
    in_words: u16,
    out_words: u16,
    request: T,
}

/// `struct ib_uverbs_get_context` and `struct ib_uverbs_alloc_pd`.
#[repr(C)]
struct Plain {
    response: u64,
}

#[repr(C)]
#[derive(Default)]
struct Context {
    async_fd: u32,
    completion_vectors: u32,
}

/// `struct ib_uverbs_reg_mr`.
#[repr(C)]
struct Register {
    response: u64,
    start: u64,
    length: u64,
    device_address: u64,
    domain: u32,
    access: u32,
}

#[repr(C)]
#[derive(Default)]
struct Registered {
    region: u32,
    local_key: u32,
    remote_key: u32,
}

/// `struct ib_uverbs_dereg_mr`.
#[repr(C)]
struct Deregister {
    region: u32,
}

/// An open device with a protection domain. Closing the device frees everything.
pub struct Verbs {
    device: File,
    form: Form,
    /// The kernel returns it with the context. Nothing reads it.
    _events: OwnedFd,
    domain: u32,
    access: Access,
    region: Option<u32>,
}

impl Verbs {
    /// Opens a device and uses ioctls if its driver has them.
    pub fn open(name: &str, access: Access) -> anyhow::Result<Self> {
        Self::open_for(name, access, DRIVERS)
    }

    /// Opens a device and uses writes.
    pub fn open_for_writes(name: &str, access: Access) -> anyhow::Result<Self> {
        Self::open_for(name, access, 0..0)
    }

    fn open_for(name: &str, access: Access, drivers: Range<u32>) -> anyhow::Result<Self> {
        let path = rdma_devices::node(name)?;
        let device = File::options()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|error| Unavailable::because(format!("cannot open {path}: {error}")))?;
        let mut context = Context::default();
        let ask = |response| Plain { response };
        write(&device, GET_CONTEXT, ask, &mut context).context("IB_USER_VERBS_CMD_GET_CONTEXT")?;
        // SAFETY: the descriptor is new, and nobody else owns it.
        let events = unsafe { OwnedFd::from_raw_fd(context.async_fd as RawFd) };
        let mut domain = 0;
        let by_ioctl = |driver: &u32| ioctl(&device, *driver, ALLOC_PD, ask, &mut domain).is_ok();
        let form = match drivers.into_iter().find(by_ioctl) {
            Some(driver) => Form::Ioctl { driver },
            None => {
                write(&device, ALLOC_PD, ask, &mut domain).context("IB_USER_VERBS_CMD_ALLOC_PD")?;
                Form::Write
            }
        };
        Ok(Self {
            device,
            form,
            _events: events,
            domain,
            access,
            region: None,
        })
    }
}

impl Pinner for Verbs {
    fn pin(&mut self, buffer: &Buffer) -> anyhow::Result<Attempt> {
        let start = buffer.map.address() as u64;
        let mut registered = Registered::default();
        let (attempt, done) = Attempt::time(|| {
            let request = |response| Register {
                response,
                start,
                length: (buffer.map.pages() * page_size()) as u64,
                device_address: start,
                domain: self.domain,
                access: match self.access {
                    Access::Read => 0,
                    Access::Write => ACCESS_LOCAL_WRITE,
                },
            };
            self.call(REG_MR, request, &mut registered)
        });
        self.region = done.map(|()| registered.region);
        Ok(attempt)
    }

    fn unpin(&mut self) -> anyhow::Result<()> {
        if let Some(region) = self.region.take() {
            self.call(DEREG_MR, |_| Deregister { region }, &mut ())
                .context("IB_USER_VERBS_CMD_DEREG_MR")?;
        }
        Ok(())
    }
}

impl Verbs {
    /// Runs a command. `request` gets the address to which the kernel writes the response.
    ///
    /// The pages of a registered region stay mapped until it is deregistered, and no device uses it.
    fn call<Q, R>(
        &self,
        command: u32,
        request: impl FnOnce(u64) -> Q,
        response: &mut R,
    ) -> Result<(), Errno> {
        match self.form {
            Form::Ioctl { driver } => ioctl(&self.device, driver, command, request, response),
            Form::Write => write(&self.device, command, request, response),
        }
    }
}

fn write<Q, R>(
    device: &File,
    command: u32,
    request: impl FnOnce(u64) -> Q,
    response: &mut R,
) -> Result<(), Errno> {
    const WORD: usize = size_of::<u32>();
    let command = Command {
        command,
        in_words: (size_of::<Command<Q>>() / WORD) as u16,
        out_words: (size_of::<R>() / WORD) as u16,
        request: request(&raw mut *response as u64),
    };
    // SAFETY: the kernel reads `command`, of its length, and writes at most `out_words` words to `response`. Both live
    // until the call returns, and `R` consists of integers, which accept any value.
    let written = Errno::result(unsafe {
        libc::write(
            device.as_raw_fd(),
            (&raw const command).cast(),
            size_of_val(&command),
        )
    })?;
    debug_assert_eq!(written as usize, size_of_val(&command));
    Ok(())
}

fn ioctl<Q, R>(
    device: &File,
    driver: u32,
    command: u32,
    request: impl FnOnce(u64) -> Q,
    response: &mut R,
) -> Result<(), Errno> {
    const RDMA_VERBS_IOCTL: libc::c_ulong = request_code_readwrite!(0x1b, 1, HEADER);
    let attribute = |id, len: usize, data| Attribute {
        id,
        len: len as u16,
        flags: MANDATORY,
        reserved: 0,
        data,
    };
    let response_at = &raw mut *response as u64;
    let request = request(response_at);
    let mut data = &raw const request as u64;
    if size_of::<Q>() <= size_of::<u64>() {
        data = 0;
        // SAFETY: both have room for `Q`, and no request has padding.
        unsafe {
            let to = (&raw mut data).cast::<u8>();
            to.copy_from_nonoverlapping((&raw const request).cast(), size_of::<Q>());
        }
    }
    let mut invoke = Invoke {
        length: size_of::<Invoke>() as u16,
        object: UVERBS_OBJECT_DEVICE,
        method: UVERBS_METHOD_INVOKE_WRITE,
        attributes: 3,
        reserved: 0,
        driver,
        reserved2: 0,
        request: attribute(CORE_IN, size_of::<Q>(), data),
        response: attribute(CORE_OUT, size_of::<R>(), response_at),
        command: attribute(WRITE_CMD, size_of::<u64>(), u64::from(command)),
    };
    if size_of::<R>() == 0 {
        // Without a response attribute, the attribute of the command takes its place.
        invoke.response = attribute(WRITE_CMD, size_of::<u64>(), u64::from(command));
        invoke.attributes = 2;
        invoke.length -= size_of::<Attribute>() as u16;
    }
    // SAFETY: the kernel reads and writes `invoke`, of the length that it states, reads `request`, and writes at most the
    // stated length to `response`. All live until the call returns, and `R` consists of integers, which accept any value.
    Errno::result(unsafe { libc::ioctl(device.as_raw_fd(), RDMA_VERBS_IOCTL, &raw mut invoke) })?;
    Ok(())
}
