//! The one tokio runtime: a thread of its own, and few threads beside it that try passwords.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::thread::JoinHandle;

use tokio::sync::oneshot;

/// Threads that try passwords; most of them wait for servers, and two compute.
const PASSWORD_THREADS: usize = 16;

/// What a server does for as long as it runs.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The running thread. It stops, with every connection, when this is dropped.
pub struct Runtime {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Runtime {
    /// Starts a thread that does these tasks.
    ///
    /// # Errors
    /// The system has no thread or no descriptor left.
    pub fn start(tasks: Vec<Task>) -> io::Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(PASSWORD_THREADS)
            .build()?;
        let run = move || {
            runtime.block_on(async {
                tasks.into_iter().for_each(|task| drop(tokio::spawn(task)));
                let _ = stopped.await;
            });
            // A password that is being tried just now is not waited for.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("mgmt".into()).spawn(run)?;
        Ok(Runtime { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
