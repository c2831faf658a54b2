//! Typical tests in programs that use the published library. Some of them fail on purpose.
//! `cli/tests/all/published.rs` runs all of them and has the expected results.

use lunatic::{test, Mailbox, Process};

#[test]
fn passes() {}

#[test]
fn has_a_mailbox(mailbox: Mailbox<u32>) {
    Process::spawn_link(mailbox.this(), |parent, _: Mailbox<()>| parent.send(7));
    assert_eq!(mailbox.receive(), 7);
}

#[test]
fn returns_ok() -> Result<(), String> {
    Ok(())
}

/// Each test has its own process names. Another test below registers the same name.
fn give_a_name(mailbox: Mailbox<u32>) {
    assert!(Process::<u32>::lookup("name").is_none());
    mailbox.this().register(&"name");
    assert!(Process::<u32>::lookup("name").is_some());
}

#[test]
fn gives_a_name(mailbox: Mailbox<u32>) {
    give_a_name(mailbox);
}

#[test]
fn gives_the_same_name(mailbox: Mailbox<u32>) {
    give_a_name(mailbox);
}

#[test]
#[should_panic]
fn panics_as_it_should() {
    panic!("it should");
}

#[test]
#[should_panic]
fn is_killed_as_it_should_be(mailbox: Mailbox<()>) {
    let child = Process::spawn_link((), |_, mailbox: Mailbox<()>| mailbox.receive());
    child.kill();
    mailbox.receive();
}

#[test]
#[should_panic(expected = "number 7 # of \"many\"")]
fn panics_with_the_expected_words() {
    panic!("it is number {} # of \"many\" that panic", 7);
}

#[test]
#[ignore]
fn is_ignored() {
    println!("the ignored test runs");
}

mod inner {
    use lunatic::test;

    #[test]
    fn is_in_a_module() {}
}

mod fails {
    use lunatic::{spawn_link, test, Mailbox};

    #[test]
    fn by_a_panic() {
        println!("what it printed before");
        panic!("it fails on purpose");
    }

    #[test]
    fn by_an_error() -> Result<(), String> {
        Err("the error of the test".to_owned())
    }

    #[test]
    fn with_its_child(mailbox: Mailbox<()>) {
        spawn_link!(|| panic!("the child fails on purpose"));
        mailbox.receive();
    }

    #[test]
    #[should_panic]
    fn because_it_does_not_panic() {}

    #[test]
    #[should_panic(expected = "other words")]
    fn because_it_panics_with_other_words() {
        panic!("it fails on purpose");
    }
}
