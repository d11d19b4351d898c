//! Keys of `pinwatch top`.

#![forbid(unsafe_code)]

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::screen::{By, Top};

/// Keys with their description, for the help screen.
pub const HELP: &[(&str, &str)] = &[
    ("Tab", "switch between processes and origins"),
    ("s", "sort by the next column"),
    (
        "/",
        "find a name or pid: Enter keeps the filter, Esc removes it",
    ),
    ("p, Space", "pause the screen; counting goes on"),
    ("Up, Down, PgUp, PgDn, Home", "scroll"),
    ("h, ?", "this help"),
    ("q, Ctrl-C", "quit"),
];

/// Rows that PgUp and PgDn scroll by.
const PAGE: usize = 10;

/// Action of the caller after a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    Draw,
    Quit,
}

impl Top {
    /// Handles a key.
    pub fn key(&mut self, key: KeyEvent) -> After {
        if key.kind == KeyEventKind::Release {
            return After::Draw;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => After::Quit,
                _ => After::Draw,
            };
        }
        if self.typing {
            self.typed(key.code);
            return After::Draw;
        }
        match key.code {
            KeyCode::Char('q') => return After::Quit,
            KeyCode::Char('h' | '?') => self.help = !self.help,
            KeyCode::Esc if self.help => self.help = false,
            KeyCode::Esc => self.find.clear(),
            KeyCode::Tab => {
                self.by = match self.by {
                    By::Process => By::Origin,
                    By::Origin => By::Process,
                };
                self.scroll = 0;
            }
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Char('p' | ' ') => {
                self.paused = match self.paused.take() {
                    Some(_) => None,
                    None => Some(Box::new(self.live.clone())),
                };
            }
            KeyCode::Up => self.scroll_by(-1),
            KeyCode::Down => self.scroll_by(1),
            KeyCode::PageUp => self.scroll_by(-(PAGE as isize)),
            KeyCode::PageDown => self.scroll_by(PAGE as isize),
            KeyCode::Home => self.scroll = 0,
            _ => {}
        }
        After::Draw
    }

    fn typed(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.find.clear();
            }
            KeyCode::Backspace => {
                self.find.pop();
            }
            KeyCode::Char(c) => self.find.push(c),
            _ => {}
        }
        self.scroll = 0;
    }

    fn scroll_by(&mut self, rows: isize) {
        let last = self.rows().len().saturating_sub(1);
        self.scroll = self.scroll.saturating_add_signed(rows).min(last);
    }
}
