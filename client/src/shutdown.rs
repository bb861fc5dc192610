//! Asking a running participant to end in good order.
//!
//! One switch, any number of listeners. A request is a wish and not a kill: the training stops after its current step, the
//! server is told that we leave, and the function returns.

use tokio::sync::watch;

/// Requests the end.
#[derive(Debug)]
pub struct ShutdownSwitch(watch::Sender<bool>);

impl ShutdownSwitch {
    /// Requests the end. A second request changes nothing.
    pub fn request(&self) {
        self.0.send_replace(true);
    }
}

/// Hears the request.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

impl Shutdown {
    /// Makes a switch and its listener.
    pub fn channel() -> (ShutdownSwitch, Self) {
        let (sender, receiver) = watch::channel(false);
        (ShutdownSwitch(sender), Self(receiver))
    }

    /// Makes a listener that will never hear anything.
    pub fn never() -> Self {
        Self::channel().1
    }

    /// Whether the end has been requested.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits for the request; for ever, if the switch is gone without one.
    pub async fn requested(&mut self) {
        if self.0.wait_for(|&requested| requested).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_listener_hears_one_request() {
        let (switch, mut first) = Shutdown::channel();
        let mut second = first.clone();
        assert!(!first.is_requested());
        switch.request();
        switch.request();
        first.requested().await;
        second.requested().await;
        assert!(first.is_requested());
    }

    #[tokio::test]
    async fn listener_without_a_switch_waits_for_ever() {
        let mut never = Shutdown::never();
        tokio::select! {
            biased;
            () = never.requested() => panic!("nobody requested anything"),
            () = tokio::task::yield_now() => {}
        }
    }
}
