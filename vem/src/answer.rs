//! Answers to the supervisor's questions.
