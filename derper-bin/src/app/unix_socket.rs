//! Unix sockets to listen on: made with the right mode from their first moment, put in the place
//! of one that nobody serves any more, and removed at the end.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use thiserror::Error;
use tokio::net::UnixListener;

/// A Unix socket that cannot be had. `Display` says what to do.
#[derive(Debug, Error)]
pub enum UnixBindError {
    /// Somebody answers there.
    #[error("cannot listen on unix:{}; another program serves this socket", .0.display())]
    InUse(PathBuf),
    /// Something else has the name.
    #[error("cannot listen on unix:{}; this is no socket, and it is not removed", .0.display())]
    NotASocket(PathBuf),
    /// The system says no.
    #[error("cannot listen on unix:{}; its directory must exist, and this user must be allowed \
             to write there", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// The name of a socket in the file system; removed when dropped, if it is still this socket's.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode));
        if is_ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "cannot remove the socket");
        }
    }
}

/// Listens on `path`, to which those may connect whom `mode` lets.
pub(super) fn bind(path: &Path, mode: u32) -> Result<(UnixListener, SocketFile), UnixBindError> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(UnixBindError::NotASocket(path.to_owned()));
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            return Err(UnixBindError::InUse(path.to_owned()));
        }
        // Nothing, or what a relay left behind that was killed.
        _ => {}
    }
    make(path, mode).map_err(|source| UnixBindError::Io {
        path: path.to_owned(),
        source,
    })
}

/// Makes the socket under another name first: under its own nobody ever finds it with another mode
/// than this one, and an old one is replaced in one step.
fn make(path: &Path, mode: u32) -> io::Result<(UnixListener, SocketFile)> {
    let (Some(dir), Some(_)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let new = dir.join(format!(".derper-{}", std::process::id()));
    // Only a process with our number can have left it, and that one is no more.
    if let Err(error) = fs::remove_file(&new)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let listener = UnixListener::bind(&new)?;
    let named = || {
        fs::set_permissions(&new, fs::Permissions::from_mode(mode))?;
        let made = fs::symlink_metadata(&new)?;
        fs::rename(&new, path)?;
        Ok(SocketFile {
            path: path.to_owned(),
            device: made.dev(),
            inode: made.ino(),
        })
    };
    match named() {
        Ok(file) => Ok((listener, file)),
        Err(error) => {
            // The first error is the one to tell of.
            let _removed = fs::remove_file(&new);
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn a_socket_that_was_left_behind_is_replaced_and_one_in_use_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("derper.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "it is left behind");

        let (listener, file) = bind(&path, 0o600).unwrap();
        assert_eq!(mode(&path), 0o600);
        let error = bind(&path, 0o600).unwrap_err();
        assert!(matches!(error, UnixBindError::InUse(_)), "{error}");
        UnixStream::connect(&path).expect("it is still served");
        drop((listener, file));
        assert!(!path.exists());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn what_is_no_socket_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("derper.sock");
        fs::write(&path, "precious").unwrap();
        let error = bind(&path, 0o660).unwrap_err();
        assert!(matches!(error, UnixBindError::NotASocket(_)), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        let error = bind(&dir.path().join("none/derper.sock"), 0o660).unwrap_err();
        assert!(matches!(error, UnixBindError::Io { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_socket_that_is_another_programs_by_now_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("derper.sock");
        let (listener, file) = bind(&path, 0o660).unwrap();
        fs::remove_file(&path).unwrap();
        let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        drop((listener, file));
        assert!(path.exists());
    }
}
