//! The bytes of a volume's file, without its holes.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use nix::{
    errno::Errno,
    unistd::{Whence, lseek},
};
use quorate_proto::guest::v1::{ReadVolumeResponse, WriteVolumeRequest};
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt as _};
use tonic::Status;

use crate::error::Error;

/// Bytes of one part.
const PART: u64 = 1 << 20;
/// Parts that are read ahead.
const AHEAD: usize = 4;

/// Reads a file; ends with an error if it cannot be read.
pub(crate) fn read(path: PathBuf) -> mpsc::Receiver<Result<ReadVolumeResponse, Status>> {
    let (parts, receiver) = mpsc::channel(AHEAD);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = send_parts(&path, &parts) {
            let error = Error::File { path, source: error };
            // The reader may be gone.
            let _ = parts.blocking_send(Err(error.into()));
        }
    });
    receiver
}

fn send_parts(path: &Path, parts: &mpsc::Sender<Result<ReadVolumeResponse, Status>>) -> io::Result<()> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    let head = ReadVolumeResponse { file_bytes: size, ..ReadVolumeResponse::default() };
    if parts.blocking_send(Ok(head)).is_err() {
        return Ok(());
    }
    let mut offset = 0;
    while let Some((begin, end)) = next_data(&file, offset)? {
        offset = begin;
        while offset < end {
            let mut data = vec![0; usize::try_from((end - offset).min(PART)).unwrap_or(1)];
            file.read_exact_at(&mut data, offset)?;
            let length = data.len() as u64;
            let part = ReadVolumeResponse { file_bytes: size, offset, data: Bytes::from(data) };
            if parts.blocking_send(Ok(part)).is_err() {
                return Ok(());
            }
            offset += length;
        }
    }
    Ok(())
}

/// The next stretch of data from an offset on.
fn next_data(file: &File, offset: u64) -> io::Result<Option<(u64, u64)>> {
    let seek = |offset: u64, whence| {
        let offset = i64::try_from(offset).map_err(|_| Errno::EOVERFLOW)?;
        lseek(file, offset, whence).map(|place| place.unsigned_abs())
    };
    match seek(offset, Whence::SeekData) {
        Ok(begin) => Ok(Some((begin, seek(begin, Whence::SeekHole)?))),
        Err(Errno::ENXIO) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Writes a file from its parts; gives the bytes that were written. All is on the disk then.
pub(crate) async fn write<S>(path: PathBuf, first: WriteVolumeRequest, mut parts: S) -> Result<u64, Error>
where
    S: Stream<Item = Result<WriteVolumeRequest, Status>> + Unpin + Send,
{
    let size = first.file_bytes;
    let (to_disk, received) = mpsc::channel::<WriteVolumeRequest>(AHEAD);
    let writer = tokio::task::spawn_blocking({
        let path = path.clone();
        move || write_parts(&path, size, received)
    });
    let mut next = Some(first);
    let mut is_complete = false;
    while let Some(part) = next {
        is_complete |= part.complete;
        if part.offset.checked_add(part.data.len() as u64).is_none_or(|end| end > size) {
            return Err(Error::Field {
                field: "offset",
                reason: "the part lies behind the file's end".to_owned(),
            });
        }
        // The writer ends early only with an error, which it tells.
        if to_disk.send(part).await.is_err() {
            break;
        }
        next = parts.next().await.transpose()?;
    }
    drop(to_disk);
    let written = writer.await.map_err(|_| Error::file(&path)(io::Error::other("writing broke")))?;
    let written = written.map_err(Error::file(&path))?;
    if !is_complete {
        return Err(Error::Field {
            field: "complete",
            reason: "the stream ended early: the file is not complete".to_owned(),
        });
    }
    Ok(written)
}

fn write_parts(path: &Path, size: u64, mut parts: mpsc::Receiver<WriteVolumeRequest>) -> io::Result<u64> {
    let file = OpenOptions::new().write(true).truncate(true).open(path)?;
    file.set_len(size)?;
    let mut written = 0;
    while let Some(part) = parts.blocking_recv() {
        file.write_all_at(&part.data, part.offset)?;
        written += part.data.len() as u64;
    }
    file.sync_all()?;
    Ok(written)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    async fn parts_of(path: &Path) -> Vec<ReadVolumeResponse> {
        let mut receiver = read(path.to_owned());
        let mut parts = Vec::new();
        while let Some(part) = receiver.recv().await {
            parts.push(part.unwrap());
        }
        parts
    }

    fn request(part: &ReadVolumeResponse) -> WriteVolumeRequest {
        let ReadVolumeResponse { file_bytes, offset, data } = part.clone();
        WriteVolumeRequest { file_bytes, offset, data, ..WriteVolumeRequest::default() }
    }

    #[tokio::test]
    async fn a_copy_has_the_same_bytes_and_the_same_holes() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("a"), dir.path().join("b"));
        let file = File::create(&from).unwrap();
        file.set_len(64 << 20).unwrap();
        file.write_all_at(&[7; 5000], 10 << 20).unwrap();
        File::create(&to).unwrap();
        let parts = parts_of(&from).await;
        let mut requests: Vec<_> = parts.iter().map(|part| Ok(request(part))).collect();
        requests.push(Ok(WriteVolumeRequest { complete: true, ..WriteVolumeRequest::default() }));
        let first = requests.remove(0).unwrap();
        let written = write(to.clone(), first, tokio_stream::iter(requests)).await.unwrap();
        assert!(written < 1 << 20, "{written} bytes for 5000 of data");
        assert_eq!(std::fs::read(&from).unwrap(), std::fs::read(&to).unwrap());
        assert!(std::fs::metadata(&to).unwrap().blocks() * 512 < 1 << 20, "the holes are holes");
    }

    #[tokio::test]
    async fn a_stream_that_ends_early_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("b");
        File::create(&to).unwrap();
        let first = WriteVolumeRequest { file_bytes: 10, ..WriteVolumeRequest::default() };
        let refused = write(to.clone(), first.clone(), tokio_stream::iter([])).await;
        assert!(matches!(refused, Err(Error::Field { field: "complete", .. })), "{refused:?}");
        let behind = WriteVolumeRequest {
            offset: 8,
            data: Bytes::from_static(b"xyz"),
            ..WriteVolumeRequest::default()
        };
        let refused = write(to, first, tokio_stream::iter([Ok(behind)])).await;
        assert!(matches!(refused, Err(Error::Field { field: "offset", .. })), "{refused:?}");
    }
}
