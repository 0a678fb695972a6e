//! A load with a set duty, through CUDA's driver API: `libcuda.so.1` is loaded at run time, and the kernel is PTX text that
//! the driver compiles for whatever card there is. No toolkit.
//!
//! The kernel waits until the card's clock has advanced by what it is told. In each period of the wall clock one such kernel
//! runs for the duty's share, so that two loads with different offsets take turns.

#![allow(unsafe_code, reason = "calls into CUDA's driver, a C library; each block says why it is sound")]

use std::{
    ffi::{c_char, c_int, c_uint, c_void},
    io::Write as _,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use libloading::{Library, Symbol};
use tidegate::clock::Clock;

const LIBRARY: &str = "libcuda.so.1";
/// Long beside a launch (10 µs) and short beside the driver's sample period (1/6 s).
const PERIOD: Duration = Duration::from_millis(100);
/// Threads of each block.
const THREADS: c_uint = 128;
/// `CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT` (cuda.h).
const MULTIPROCESSOR_COUNT: c_int = 16;

/// `%globaltimer` counts nanoseconds. Volta is the oldest card that this runs on, and newer ones compile it for themselves.
const KERNEL: &str = "\
.version 6.0
.target sm_70
.address_size 64
.visible .entry wait(.param .u64 nanoseconds)
{
    .reg .u64 %rd<4>;
    .reg .pred %p<2>;
    ld.param.u64 %rd1, [nanoseconds];
    mov.u64 %rd2, %globaltimer;
    add.u64 %rd2, %rd2, %rd1;
again:
    mov.u64 %rd3, %globaltimer;
    setp.lt.u64 %p1, %rd3, %rd2;
    @%p1 bra again;
    ret;
}
\0";

type Code = c_int;
type Handle = *mut c_void;

/// The calls that are used, with the signatures of cuda.h.
struct Cuda<'a> {
    init: Symbol<'a, unsafe extern "C" fn(c_uint) -> Code>,
    device: Symbol<'a, unsafe extern "C" fn(*mut c_int, c_int) -> Code>,
    attribute: Symbol<'a, unsafe extern "C" fn(*mut c_int, c_int, c_int) -> Code>,
    retain: Symbol<'a, unsafe extern "C" fn(*mut Handle, c_int) -> Code>,
    set_current: Symbol<'a, unsafe extern "C" fn(Handle) -> Code>,
    allocate: Symbol<'a, unsafe extern "C" fn(*mut u64, usize) -> Code>,
    load: Symbol<'a, unsafe extern "C" fn(*mut Handle, *const c_void) -> Code>,
    function: Symbol<'a, unsafe extern "C" fn(*mut Handle, Handle, *const c_char) -> Code>,
    launch: Symbol<'a, Launch>,
    synchronize: Symbol<'a, unsafe extern "C" fn() -> Code>,
}

/// `cuLaunchKernel`: function, grid, block, shared memory, stream, parameters, extra.
type Launch = unsafe extern "C" fn(
    Handle,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    Handle,
    *mut *mut c_void,
    *mut *mut c_void,
) -> Code;

impl<'a> Cuda<'a> {
    fn new(library: &'a Library) -> anyhow::Result<Self> {
        // SAFETY: the types above are those of cuda.h for these names.
        unsafe {
            Ok(Self {
                init: library.get(b"cuInit\0")?,
                device: library.get(b"cuDeviceGet\0")?,
                attribute: library.get(b"cuDeviceGetAttribute\0")?,
                retain: library.get(b"cuDevicePrimaryCtxRetain\0")?,
                set_current: library.get(b"cuCtxSetCurrent\0")?,
                allocate: library.get(b"cuMemAlloc_v2\0")?,
                load: library.get(b"cuModuleLoadData\0")?,
                function: library.get(b"cuModuleGetFunction\0")?,
                launch: library.get(b"cuLaunchKernel\0")?,
                synchronize: library.get(b"cuCtxSynchronize\0")?,
            })
        }
    }
}

fn check(what: &str, code: Code) -> anyhow::Result<()> {
    ensure!(code == 0, "{what}: CUDA error {code} (see CUresult in CUDA's documentation)");
    Ok(())
}

/// Holds a context and that much memory on the card and keeps it busy for `percent` of the time, `offset` percent of a
/// period later than the full period of the clock, until it is killed. Says `ready` once it begins.
pub fn spin(card: u32, percent: u32, offset: u32, memory_mib: u64) -> anyhow::Result<()> {
    ensure!(percent <= 100 && offset < 100, "a duty of {percent} % at {offset} % of the period");
    // SAFETY: the driver's library; its initializers are the driver's.
    let library =
        unsafe { Library::new(LIBRARY) }.with_context(|| format!("{LIBRARY} not found: is the driver installed?"))?;
    let cuda = Cuda::new(&library)?;
    let card = c_int::try_from(card).context("an index of a card")?;
    let (mut device, mut count) = (0, 0);
    let (mut context, mut module, mut function) = (std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut());
    let mut memory = 0;
    // SAFETY: every pointer is to a variable above that outlives the call; the kernel's text and name end in a zero byte.
    unsafe {
        check("cuInit", (cuda.init)(0))?;
        check("cuDeviceGet", (cuda.device)(&raw mut device, card))?;
        check("cuDeviceGetAttribute", (cuda.attribute)(&raw mut count, MULTIPROCESSOR_COUNT, device))?;
        check("cuDevicePrimaryCtxRetain", (cuda.retain)(&raw mut context, device))?;
        check("cuCtxSetCurrent", (cuda.set_current)(context))?;
        check("cuMemAlloc", (cuda.allocate)(&raw mut memory, (memory_mib << 20) as usize))?;
        check("cuModuleLoadData", (cuda.load)(&raw mut module, KERNEL.as_ptr().cast()))?;
        check("cuModuleGetFunction", (cuda.function)(&raw mut function, module, c"wait".as_ptr()))?;
    }
    println!("ready");
    std::io::stdout().flush()?;
    let busy = PERIOD * percent / 100;
    let mut nanoseconds = busy.as_nanos() as u64;
    let blocks = c_uint::try_from(count).context("a count of multiprocessors")?;
    loop {
        wait_for(offset)?;
        if busy.is_zero() {
            continue;
        }
        let mut parameters = [(&raw mut nanoseconds).cast::<c_void>()];
        // SAFETY: the kernel takes one 64-bit parameter, which outlives the launch: the card is waited for before the next.
        unsafe {
            let (one, none) = (1, std::ptr::null_mut());
            let parameters = parameters.as_mut_ptr();
            let code = (cuda.launch)(function, blocks, one, one, THREADS, one, one, 0, none, parameters, none.cast());
            check("cuLaunchKernel", code)?;
            check("cuCtxSynchronize", (cuda.synchronize)())?;
        }
    }
}

/// Sleeps until the wall clock is at that part of a period.
fn wait_for(offset: u32) -> anyhow::Result<()> {
    let period = PERIOD.as_micros() as i64;
    let now = Clock::start().now().as_microsecond();
    let place = now.rem_euclid(period);
    let wanted = period * i64::from(offset) / 100;
    let pause = (wanted - place).rem_euclid(period);
    let Ok(pause) = u64::try_from(pause) else { bail!("a pause of {pause} µs") };
    // A period that is over by less than this is begun: a duty of 95 % leaves 5 ms.
    std::thread::sleep(Duration::from_micros(pause));
    Ok(())
}
