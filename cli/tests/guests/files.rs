//! Checks what `std::fs` promises. Prints a line for each claim that holds.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Result, Seek, SeekFrom, Write};
use std::os::wasi::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

fn main() -> Result<()> {
    opening()?;
    reading_and_writing()?;
    names()?;
    directories()?;
    facts()?;
    many()?;
    Ok(())
}

fn ok(claim: &str) {
    println!("ok {claim}");
}

fn error<T>(result: Result<T>) -> ErrorKind {
    match result {
        Ok(_) => panic!("the call must fail"),
        Err(error) => error.kind(),
    }
}

fn opening() -> Result<()> {
    assert_eq!(error(File::open("absent")), ErrorKind::NotFound);
    assert_eq!(error(File::open("absent/deep")), ErrorKind::NotFound);
    ok("a missing file is not found");

    fs::write("a", "text")?;
    assert_eq!(error(OpenOptions::new().write(true).create_new(true).open("a")), ErrorKind::AlreadyExists);
    OpenOptions::new().write(true).create_new(true).open("b")?;
    ok("`create_new` creates a file, but does not open an existing file");

    assert!(OpenOptions::new().write(true).create_new(true).open("a/").is_err());
    assert!(File::open("a/").is_err() && File::open("a/b").is_err());
    ok("a file is not a directory");

    OpenOptions::new().write(true).open("a")?.write_all(b"X")?;
    assert_eq!(fs::read_to_string("a")?, "Xext");
    File::create("a")?;
    assert_eq!(fs::read_to_string("a")?, "");
    ok("`create` truncates a file, and opening it for writing does not");

    fs::write("a", "text")?;
    assert!(File::open("a")?.write(b"x").is_err());
    assert!(OpenOptions::new().write(true).open("a")?.read(&mut [0]).is_err());
    ok("a file can be used only in the way it was opened");

    assert!(OpenOptions::new().open("a").is_err());
    assert!(OpenOptions::new().read(true).truncate(true).open("a").is_err());
    assert!(OpenOptions::new().read(true).create(true).open("c").is_err());
    ok("invalid combinations of options are refused");
    Ok(())
}

fn reading_and_writing() -> Result<()> {
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open("a")?;
    assert_eq!(file.write_vectored(&[IoSlice::new(b"one "), IoSlice::new(b""), IoSlice::new(b"two")])?, 7);
    file.rewind()?;
    let (mut first, mut second) = ([0; 5], [0; 5]);
    assert_eq!(file.read_vectored(&mut [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)])?, 7);
    assert_eq!((&first, &second[..2]), (b"one t", &b"wo"[..]));
    ok("vectored reads and writes use several buffers");

    assert_eq!(file.seek(SeekFrom::End(-3))?, 4);
    assert_eq!(file.seek(SeekFrom::Current(-1))?, 3);
    assert_eq!(file.stream_position()?, 3);
    assert!(file.seek(SeekFrom::Current(-4)).is_err());
    assert_eq!(file.seek(SeekFrom::Start(10))?, 10);
    file.write_all(b"!")?;
    assert_eq!(fs::read("a")?, b"one two\0\0\0!");
    ok("a gap created by seeking is filled with zeros");

    file.set_len(3)?;
    assert_eq!((fs::read("a")?, file.stream_position()?), (b"one".to_vec(), 11));
    file.set_len(5)?;
    assert_eq!(fs::read("a")?, b"one\0\0");
    ok("setting the length does not change the position");

    let mut twice = [OpenOptions::new().append(true).open("b")?, OpenOptions::new().append(true).open("b")?];
    for number in 0..4 {
        write!(twice[number % 2], "{number}")?;
    }
    assert_eq!(fs::read_to_string("b")?, "0123");
    ok("appended bytes go to the end, no matter which handle wrote last");

    let data: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
    fs::write("large", &data)?;
    assert!(fs::read("large")? == data);
    assert_eq!(fs::copy("large", "copied")?, data.len() as u64);
    assert!(fs::read("copied")? == data);
    ok("a large file is read back as it was written, and can be copied");

    file.sync_all()?;
    file.sync_data()?;
    ok("files can be synchronized");
    for name in ["a", "b", "large", "copied"] {
        fs::remove_file(name)?;
    }
    Ok(())
}

fn names() -> Result<()> {
    fs::write("a", "1")?;
    fs::rename("a", "b")?;
    assert!(!fs::exists("a")? && fs::exists("b")?);
    fs::write("a", "2")?;
    fs::rename("a", "b")?;
    assert_eq!(fs::read_to_string("b")?, "2");
    assert_eq!(error(fs::rename("a", "c")), ErrorKind::NotFound);
    ok("a renamed file replaces the file that already had the name");

    fs::hard_link("b", "c")?;
    fs::remove_file("b")?;
    assert_eq!(fs::read_to_string("c")?, "2");
    fs::write("b", "")?;
    assert_eq!(error(fs::hard_link("b", "c")), ErrorKind::AlreadyExists);
    ok("a hard link keeps a file alive");

    #[allow(deprecated)]
    fs::soft_link("c", "link")?;
    assert_eq!(fs::read_link("link")?, Path::new("c"));
    assert_eq!(fs::read_to_string("link")?, "2");
    assert!(fs::symlink_metadata("link")?.is_symlink() && fs::metadata("link")?.is_file());
    assert!(fs::read_link("c").is_err());
    fs::remove_file("link")?;
    assert!(fs::exists("c")?);
    ok("a symbolic link can be followed, read and removed");

    #[allow(deprecated)]
    fs::soft_link("loop", "loop")?;
    assert!(File::open("loop").is_err());
    #[allow(deprecated)]
    fs::soft_link("absent", "dangling")?;
    assert!(!fs::exists("dangling")? && fs::symlink_metadata("dangling").is_ok());
    ok("loops of links and broken links are detected");

    let name = OsStr::from_bytes(b"no \xff text");
    fs::write(name, "3")?;
    assert!(fs::read_dir(".")?.any(|entry| entry.is_ok_and(|entry| entry.file_name() == name)));
    assert_eq!(fs::read_to_string(name)?, "3");
    fs::remove_file(name)?;
    let long = "ä".repeat(127);
    fs::write(&long, "4")?;
    fs::remove_file(&long)?;
    assert!(fs::write("x".repeat(256), "").is_err());
    ok("names are arbitrary bytes, at most 255 of them");

    let mut file = File::create("gone")?;
    fs::remove_file("gone")?;
    file.write_all(b"still here")?;
    assert_eq!(file.metadata()?.len(), 10);
    ok("an open file outlives its name");
    for name in ["b", "c", "loop", "dangling"] {
        fs::remove_file(name)?;
    }
    Ok(())
}

fn directories() -> Result<()> {
    fs::create_dir("d/")?;
    assert_eq!(error(fs::create_dir("d")), ErrorKind::AlreadyExists);
    fs::create_dir_all("d/e/f/")?;
    fs::create_dir_all("d/e/f")?;
    assert!(fs::create_dir("x/y").is_err());
    ok("directories can be created, with or without a trailing slash");

    assert!(fs::remove_dir("d").is_err());
    fs::remove_dir("d/e/f/")?;
    fs::write("d/file", "")?;
    assert!(fs::remove_dir("d/file").is_err() && fs::remove_file("d/e").is_err());
    assert!(fs::remove_file("d/file/").is_err());
    assert!(fs::read_dir("d/file").is_err() && fs::read_dir("absent").is_err());
    ok("only empty directories are removed, and files are not treated as directories");

    fs::rename("d/e/", "d/g/")?;
    fs::rename("d/g", "d/e")?;
    assert!(fs::rename("d", "d/e/inside").is_err());
    assert!(fs::rename("d/file", "d/e").is_err() && fs::rename("d/e", "d/file").is_err());
    ok("directories can be renamed, but not into themselves or over files");

    for number in 0..5 {
        fs::create_dir_all(format!("d/deep{number}/er"))?;
        fs::write(format!("d/deep{number}/er/file"), "")?;
    }
    #[allow(deprecated)]
    fs::soft_link("../kept", "d/link")?;
    fs::create_dir("kept")?;
    fs::write("kept/file", "")?;
    fs::remove_dir_all("d")?;
    assert!(!fs::exists("d")? && fs::exists("kept/file")?);
    fs::remove_dir_all("kept/")?;
    ok("removing a tree does not remove the targets of links in it");

    fs::create_dir("d")?;
    fs::write("d/file", "")?;
    fs::create_dir("d/dir")?;
    #[allow(deprecated)]
    fs::soft_link("file", "d/link")?;
    let mut found: Vec<_> = fs::read_dir("d")?
        .map(|entry| {
            let entry = entry.expect("the entry can be read");
            let kind = entry.file_type().expect("the entry has a type");
            assert_eq!(entry.metadata().expect("the file exists").file_type(), kind);
            assert_eq!(entry.path(), Path::new("d").join(entry.file_name()));
            (entry.file_name().into_string().expect("the name is UTF-8"), kind.is_dir(), kind.is_symlink())
        })
        .collect();
    found.sort();
    assert_eq!(
        found,
        [("dir".into(), true, false), ("file".into(), false, false), ("link".into(), false, true)]
    );
    fs::remove_dir_all("d")?;
    ok("a directory is listed with the types of its entries");
    Ok(())
}

fn facts() -> Result<()> {
    let before = SystemTime::now() - Duration::from_secs(60);
    fs::write("a", "12345")?;
    let metadata = fs::metadata("a")?;
    assert!(metadata.is_file() && !metadata.is_dir() && metadata.len() == 5);
    assert!(metadata.modified()? > before && metadata.accessed()? > before);
    assert!(fs::metadata(".")?.is_dir() && File::open(".")?.metadata()?.is_dir());
    ok("the metadata of a file is correct");

    let time = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_000);
    File::options().write(true).open("a")?.set_modified(time)?;
    assert_eq!(fs::metadata("a")?.modified()?, time);
    ok("times can be set");
    fs::remove_file("a")
}

fn many() -> Result<()> {
    fs::create_dir("many")?;
    let names: HashSet<_> = (0..2000).map(|number| format!("{number:0>100}")).collect();
    for name in &names {
        File::create(Path::new("many").join(name))?;
    }
    let found: Vec<_> = fs::read_dir("many")?
        .map(|entry| entry.expect("the entry can be read").file_name().into_string().expect("the name is UTF-8"))
        .collect();
    assert!(found.len() == 2000 && found.into_iter().collect::<HashSet<_>>() == names);
    ok("every name is listed once");

    for entry in fs::read_dir("many")? {
        fs::remove_file(entry?.path())?;
    }
    fs::remove_dir("many")?;
    ok("entries can be removed while they are being listed");

    fs::write("a", "")?;
    let files: Vec<_> = (0..250).map(|_| File::open("a")).collect::<Result<_>>()?;
    drop(files);
    let files: Vec<_> = (0..250).map(|_| File::open("a")).collect::<Result<_>>()?;
    let more: Vec<_> = (0..7).map(|_| File::open("a")).collect();
    assert!(more.last().is_some_and(Result::is_err));
    drop((files, more));
    ok("256 files can be open at the same time");
    fs::remove_file("a")
}
