//! SQLite's door to a [`Disk`]: a file layer ("VFS") registered under a name of its own.
#![expect(unsafe_code, reason = "SQLite calls its file layer through C function pointers")]

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use rusqlite::ffi;

use super::disk::{Disk, Fault, FileId};

/// The name under which SQLite knows the layer.
pub(crate) const NAME: &CStr = c"hufu-power-cut";

/// Every disk with a directory of its own: `/disk-N/`.
static DISKS: Mutex<BTreeMap<u64, Weak<Disk>>> = Mutex::new(BTreeMap::new());
static NEXT: AtomicU64 = AtomicU64::new(1);

fn disks() -> MutexGuard<'static, BTreeMap<u64, Weak<Disk>>> {
    DISKS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A disk in its drive: as long as it lives, SQLite finds files under [`Mount::path`].
#[derive(Debug)]
pub(crate) struct Mount {
    number: u64,
    pub(crate) disk: Arc<Disk>,
}

impl Mount {
    pub(crate) fn new(disk: Arc<Disk>) -> Self {
        register();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        disks().insert(number, Arc::downgrade(&disk));
        Self { number, disk }
    }

    /// The directory, with a slash at its end.
    pub(crate) fn path(&self) -> String {
        format!("/disk-{}/", self.number)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        disks().remove(&self.number);
    }
}

/// The disk of a path and the file's name on it.
fn find(path: &CStr) -> Option<(Arc<Disk>, &str)> {
    let (number, name) = path.to_str().ok()?.strip_prefix("/disk-")?.split_once('/')?;
    let disk = disks().get(&number.parse().ok()?)?.upgrade()?;
    Some((disk, name))
}

/// What SQLite keeps of an open file; it gives the memory.
#[repr(C)]
struct Handle {
    base: ffi::sqlite3_file,
    open: *mut Open,
}

struct Open {
    disk: Arc<Disk>,
    file: FileId,
    owner: u64,
    /// The first sync settles names too, as SQLite's own layer for Unix does it for logs and journals.
    sync_names: bool,
    has_memory: bool,
}

/// # Safety
///
/// `file` was opened by [`open`] and not yet closed.
unsafe fn opened<'a>(file: *mut ffi::sqlite3_file) -> &'a mut Open {
    // SAFETY: `open` has put a pointer from `Box::into_raw` there, and SQLite uses a file on one thread at a time.
    unsafe { &mut *(*file.cast::<Handle>()).open }
}

fn code(done: Result<(), Fault>, io: c_int) -> c_int {
    match done {
        Ok(()) => ffi::SQLITE_OK,
        Err(Fault::Full) => ffi::SQLITE_FULL,
        Err(Fault::Missing) => ffi::SQLITE_CANTOPEN,
        Err(Fault::Off | Fault::Io) => io,
    }
}

unsafe extern "C" fn open(
    _vfs: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    flags_out: *mut c_int,
) -> c_int {
    // SAFETY: SQLite gives `szOsFile` bytes, which is the size of `Handle`; without methods it will not close it.
    unsafe { (*file).pMethods = std::ptr::null() };
    if name.is_null() {
        return ffi::SQLITE_CANTOPEN;
    }
    // SAFETY: SQLite's names end with a zero byte and outlive the call.
    let Some((disk, name)) = find(unsafe { CStr::from_ptr(name) }) else { return ffi::SQLITE_CANTOPEN };
    let create = flags & ffi::SQLITE_OPEN_CREATE != 0;
    let found = match disk.open(name, create) {
        Ok(found) => found,
        Err(fault) => return code(Err(fault), ffi::SQLITE_CANTOPEN),
    };
    let is_log = flags & (ffi::SQLITE_OPEN_MAIN_JOURNAL | ffi::SQLITE_OPEN_WAL) != 0;
    let open = Open {
        disk,
        file: found,
        owner: NEXT.fetch_add(1, Ordering::Relaxed),
        sync_names: create && is_log,
        has_memory: false,
    };
    // SAFETY: as above; `close` takes the box back.
    unsafe {
        (*file.cast::<Handle>()).open = Box::into_raw(Box::new(open));
        (*file).pMethods = &raw const METHODS;
        if !flags_out.is_null() {
            *flags_out = flags;
        }
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: an open file; the box is from `open`, and SQLite closes a file once.
    let open = unsafe { Box::from_raw((*file.cast::<Handle>()).open) };
    if open.has_memory {
        open.disk.shared.leave(open.file, open.owner);
    }
    open.disk.locks.lower(open.file, open.owner, 0);
    ffi::SQLITE_OK
}

unsafe extern "C" fn read(
    file: *mut ffi::sqlite3_file,
    into: *mut c_void,
    length: c_int,
    at: ffi::sqlite3_int64,
) -> c_int {
    let (Ok(length), Ok(at)) = (usize::try_from(length), usize::try_from(at)) else {
        return ffi::SQLITE_IOERR_READ;
    };
    // SAFETY: an open file, and SQLite's buffer has `length` bytes.
    let (open, into) = unsafe { (opened(file), std::slice::from_raw_parts_mut(into.cast::<u8>(), length)) };
    match open.disk.read(open.file, at, into) {
        Ok(read) if read == length => ffi::SQLITE_OK,
        Ok(read) => {
            into[read..].fill(0);
            ffi::SQLITE_IOERR_SHORT_READ
        }
        Err(_) => ffi::SQLITE_IOERR_READ,
    }
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    from: *const c_void,
    length: c_int,
    at: ffi::sqlite3_int64,
) -> c_int {
    let (Ok(length), Ok(at)) = (usize::try_from(length), usize::try_from(at)) else {
        return ffi::SQLITE_IOERR_WRITE;
    };
    // SAFETY: an open file, and SQLite's buffer has `length` bytes.
    let (open, from) = unsafe { (opened(file), std::slice::from_raw_parts(from.cast::<u8>(), length)) };
    code(open.disk.write(open.file, at, from), ffi::SQLITE_IOERR_WRITE)
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, length: ffi::sqlite3_int64) -> c_int {
    let Ok(length) = usize::try_from(length) else { return ffi::SQLITE_IOERR_TRUNCATE };
    // SAFETY: an open file.
    let open = unsafe { opened(file) };
    code(open.disk.set_length(open.file, length), ffi::SQLITE_IOERR_TRUNCATE)
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, _flags: c_int) -> c_int {
    // SAFETY: an open file.
    let open = unsafe { opened(file) };
    let done = open.disk.sync(open.file, open.sync_names);
    open.sync_names &= done.is_err();
    code(done, ffi::SQLITE_IOERR_FSYNC)
}

unsafe extern "C" fn file_size(file: *mut ffi::sqlite3_file, size: *mut ffi::sqlite3_int64) -> c_int {
    // SAFETY: an open file, and SQLite's own place for the answer.
    unsafe {
        let open = opened(file);
        *size = i64::try_from(open.disk.length(open.file)).unwrap_or(i64::MAX);
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn lock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: an open file.
    let open = unsafe { opened(file) };
    match open.disk.locks.raise(open.file, open.owner, level) {
        Ok(()) => ffi::SQLITE_OK,
        Err(_) => ffi::SQLITE_BUSY,
    }
}

unsafe extern "C" fn unlock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: an open file.
    let open = unsafe { opened(file) };
    open.disk.locks.lower(open.file, open.owner, level);
    ffi::SQLITE_OK
}

unsafe extern "C" fn is_reserved(file: *mut ffi::sqlite3_file, answer: *mut c_int) -> c_int {
    // SAFETY: an open file, and SQLite's own place for the answer.
    unsafe {
        let open = opened(file);
        *answer = c_int::from(open.disk.locks.is_reserved(open.file));
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn control(_file: *mut ffi::sqlite3_file, _op: c_int, _value: *mut c_void) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn sector_size(_file: *mut ffi::sqlite3_file) -> c_int {
    // What SQLite assumes of a file under Unix.
    4_096
}

unsafe extern "C" fn characteristics(_file: *mut ffi::sqlite3_file) -> c_int {
    // As under Unix: a write harms no byte beside it.
    ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE
}

unsafe extern "C" fn memory_map(
    file: *mut ffi::sqlite3_file,
    region: c_int,
    size: c_int,
    extend: c_int,
    answer: *mut *mut c_void,
) -> c_int {
    let (Ok(region), Ok(size)) = (usize::try_from(region), usize::try_from(size)) else {
        return ffi::SQLITE_IOERR_SHMMAP;
    };
    // SAFETY: an open file, and SQLite's own place for the answer; the region lives until the last one leaves.
    unsafe {
        let open = opened(file);
        open.has_memory = true;
        *answer = open.disk.shared.map(open.file, open.owner, region, size, extend != 0).cast();
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn memory_lock(
    file: *mut ffi::sqlite3_file,
    first: c_int,
    count: c_int,
    flags: c_int,
) -> c_int {
    // SAFETY: an open file.
    let open = unsafe { opened(file) };
    let mask = (first..first + count).fold(0_u8, |mask, at| mask | (1 << at));
    if flags & ffi::SQLITE_SHM_UNLOCK != 0 {
        open.disk.shared.unlock(open.file, open.owner, mask);
        return ffi::SQLITE_OK;
    }
    let exclusively = flags & ffi::SQLITE_SHM_EXCLUSIVE != 0;
    match open.disk.shared.lock(open.file, open.owner, mask, exclusively) {
        Ok(()) => ffi::SQLITE_OK,
        Err(_) => ffi::SQLITE_BUSY,
    }
}

unsafe extern "C" fn memory_barrier(_file: *mut ffi::sqlite3_file) {
    std::sync::atomic::fence(Ordering::SeqCst);
}

unsafe extern "C" fn memory_unmap(file: *mut ffi::sqlite3_file, _delete: c_int) -> c_int {
    // SAFETY: an open file.
    let open = unsafe { opened(file) };
    if std::mem::take(&mut open.has_memory) {
        open.disk.shared.leave(open.file, open.owner);
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn delete(_vfs: *mut ffi::sqlite3_vfs, name: *const c_char, sync: c_int) -> c_int {
    // SAFETY: SQLite's names end with a zero byte and outlive the call.
    let Some((disk, name)) = find(unsafe { CStr::from_ptr(name) }) else { return ffi::SQLITE_IOERR_DELETE };
    match disk.delete(name, sync != 0) {
        Err(Fault::Missing) => ffi::SQLITE_IOERR_DELETE_NOENT,
        done => code(done, ffi::SQLITE_IOERR_DELETE),
    }
}

unsafe extern "C" fn access(
    _vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    _flags: c_int,
    answer: *mut c_int,
) -> c_int {
    // SAFETY: SQLite's names end with a zero byte and outlive the call; the place for the answer is its own.
    unsafe {
        *answer = c_int::from(find(CStr::from_ptr(name)).is_some_and(|(disk, name)| disk.exists(name)));
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn full_path(
    _vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    room: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: SQLite's names end with a zero byte and outlive the call.
    let name: CString = unsafe { CStr::from_ptr(name) }.to_owned();
    let bytes = name.as_bytes_with_nul();
    if usize::try_from(room).is_ok_and(|room| room < bytes.len()) {
        return ffi::SQLITE_CANTOPEN;
    }
    // SAFETY: `out` has `room` bytes, and the name has no more.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), out.cast(), bytes.len()) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn randomness(_vfs: *mut ffi::sqlite3_vfs, length: c_int, out: *mut c_char) -> c_int {
    let Ok(wanted) = usize::try_from(length) else { return 0 };
    // SAFETY: `out` has `length` bytes.
    let out = unsafe { std::slice::from_raw_parts_mut(out.cast::<u8>(), wanted) };
    if getrandom::fill(out).is_ok() { length } else { 0 }
}

unsafe extern "C" fn sleep(_vfs: *mut ffi::sqlite3_vfs, us: c_int) -> c_int {
    std::thread::sleep(Duration::from_micros(u64::try_from(us).unwrap_or(0)));
    us
}

unsafe extern "C" fn time(_vfs: *mut ffi::sqlite3_vfs, answer: *mut f64) -> c_int {
    // SAFETY: the place for the answer is SQLite's own. Nothing of the store asks SQLite for the time.
    unsafe { *answer = 2_461_368.5 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn last_error(_vfs: *mut ffi::sqlite3_vfs, _room: c_int, _out: *mut c_char) -> c_int {
    0
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(is_reserved),
    xFileControl: Some(control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(characteristics),
    xShmMap: Some(memory_map),
    xShmLock: Some(memory_lock),
    xShmBarrier: Some(memory_barrier),
    xShmUnmap: Some(memory_unmap),
    xFetch: None,
    xUnfetch: None,
};

/// Makes the layer known to SQLite, once.
fn register() {
    static DONE: OnceLock<c_int> = OnceLock::new();
    let code = *DONE.get_or_init(|| {
        let vfs = ffi::sqlite3_vfs {
            iVersion: 1,
            szOsFile: c_int::try_from(size_of::<Handle>()).unwrap_or(c_int::MAX),
            mxPathname: 512,
            pNext: std::ptr::null_mut(),
            zName: NAME.as_ptr(),
            pAppData: std::ptr::null_mut(),
            xOpen: Some(open),
            xDelete: Some(delete),
            xAccess: Some(access),
            xFullPathname: Some(full_path),
            xDlOpen: None,
            xDlError: None,
            xDlSym: None,
            xDlClose: None,
            xRandomness: Some(randomness),
            xSleep: Some(sleep),
            xCurrentTime: Some(time),
            xGetLastError: Some(last_error),
            xCurrentTimeInt64: None,
            xSetSystemCall: None,
            xGetSystemCall: None,
            xNextSystemCall: None,
        };
        // SAFETY: SQLite keeps the pointer, so the value is never freed.
        unsafe { ffi::sqlite3_vfs_register(Box::into_raw(Box::new(vfs)), 0) }
    });
    assert_eq!(code, ffi::SQLITE_OK, "SQLite takes another file layer");
}
