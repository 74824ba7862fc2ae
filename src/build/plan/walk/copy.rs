//! `COPY` and `ADD` (BuildKit, `convert_copy.go`).

use crate::build::plan::stage::{State, destination};
use crate::build::plan::{ContextName, Copy, CopySource, Error, Origin, Remote, Unpack, Work};
use crate::dockerfile::{
    Add, Copy as CopyInstruction, GitReference, Heredoc, Instruction, Source, Span, Word,
};
use crate::image::Digest;

use super::Walk;

impl Walk<'_> {
    pub(super) fn copy(
        &mut self,
        state: &mut State,
        number: usize,
        instruction: &Instruction,
        copy: &CopyInstruction,
    ) -> Result<(), Error> {
        let from = match &copy.from {
            None => Origin::Context(self.context(&ContextName::Main)),
            Some(word) => self
                .origin(number, &word.text, word.span)?
                .ok_or_else(|| Error::refused("`scratch` has no files", word.span))?,
        };
        let what = Transfer {
            name: "COPY",
            from,
            sources: &copy.sources,
            destination: &copy.destination,
            chown: copy.chown.as_ref(),
            chmod: copy.chmod.as_ref(),
            link: copy.link,
            parents: copy.parents,
            exclude: &copy.exclude,
            unpack: Unpack::Never,
            checksum: None,
            keep_git_dir: None,
        };
        what.plan(state, instruction)
    }

    pub(super) fn add(
        &mut self,
        state: &mut State,
        instruction: &Instruction,
        add: &Add,
    ) -> Result<(), Error> {
        let what = Transfer {
            name: "ADD",
            from: Origin::Context(self.context(&ContextName::Main)),
            sources: &add.sources,
            destination: &add.destination,
            chown: add.chown.as_ref(),
            chmod: add.chmod.as_ref(),
            link: add.link,
            parents: false,
            exclude: &add.exclude,
            unpack: match add.unpack {
                None => Unpack::Local,
                Some(true) => Unpack::Always,
                Some(false) => Unpack::Never,
            },
            checksum: add.checksum.as_ref(),
            keep_git_dir: instruction.flag("keep-git-dir").map(|_| add.keep_git_dir),
        };
        what.plan(state, instruction)
    }
}

/// What `COPY` and `ADD` have in common.
struct Transfer<'a> {
    name: &'static str,
    from: Origin,
    sources: &'a [Source],
    destination: &'a Word,
    chown: Option<&'a Word>,
    chmod: Option<&'a Word>,
    link: bool,
    parents: bool,
    exclude: &'a [Word],
    unpack: Unpack,
    checksum: Option<&'a Word>,
    keep_git_dir: Option<bool>,
}

impl Transfer<'_> {
    fn plan(&self, state: &mut State, instruction: &Instruction) -> Result<(), Error> {
        let checksum = state.expand_some(self.checksum)?.filter(|text| !text.is_empty());
        let checked = self.checksum.filter(|_| checksum.is_some());
        if let Some(word) = checked.filter(|_| self.sources.len() != 1) {
            let message = "checksum can't be specified for multiple sources";
            return Err(Error::refused(message, word.span));
        }
        let mut sources = Vec::with_capacity(self.sources.len());
        let mut shown = Vec::new();
        for source in self.sources {
            let Source::Path(word) = source else { continue };
            let text = state.expand(word)?;
            sources.push(self.source(&text, word.span, checksum.as_deref())?);
            shown.push(text);
        }
        // In BuildKit all here-documents come after all paths, in the layer as in the history.
        for source in self.sources {
            let Source::Heredoc(heredoc) = source else { continue };
            sources.push(inline(state, heredoc)?);
            shown.push(format!("<<{}", heredoc.name));
        }
        if let Some(word) = checked
            && !matches!(sources[..], [CopySource::Remote(_)])
        {
            return Err(Error::refused("checksum requires HTTP(S) or Git sources", word.span));
        }
        let target = state.expand(self.destination)?;
        let chown = state.expand_some(self.chown)?;
        let chmod = state.expand_some(self.chmod)?;
        shown.push(target.clone());
        let created_by = self.created_by(chown.as_deref(), chmod.as_deref(), &shown);
        let exclude = self.exclude.iter().map(|word| state.expand(word));
        let work = Work::Copy(Copy {
            instruction: self.name,
            from: self.from,
            sources,
            destination: destination(&state.working_directory(), &target),
            link: self.link && chmod.as_deref().is_none_or(str::is_empty),
            chown: chown.filter(|text| !text.is_empty()),
            chmod: chmod.filter(|text| !text.is_empty()),
            parents: self.parents,
            exclude: exclude.collect::<Result<_, _>>()?,
            unpack: self.unpack,
        });
        let title = state.title(instruction, &|name| state.variable(name));
        state.step(instruction.span, title, created_by, work);
        Ok(())
    }

    /// Words the history entry as BuildKit does: of the flags only these, in this order.
    fn created_by(&self, chown: Option<&str>, chmod: Option<&str>, words: &[String]) -> String {
        let mut text = self.name.to_owned();
        if self.parents {
            text.push_str(" --parents");
        }
        for (flag, value) in [("chown", chown), ("chmod", chmod)] {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                text.extend([" --", flag, "=", value]);
            }
        }
        for word in words {
            text.extend([" ", word]);
        }
        text.push_str(" # buildkit");
        text
    }

    /// Returns what a source that is no here-document is.
    fn source(&self, text: &str, span: Span, checksum: Option<&str>) -> Result<CopySource, Error> {
        let refused = |message: String| Error::refused(message, span);
        let git = match self.keep_git_dir {
            Some(_) => GitReference::parse_known(text),
            None => GitReference::parse(text),
        };
        let git = git.map_err(|error| refused(error.to_string()))?;
        let is_add = self.name == "ADD";
        if let Some(git) = git.filter(|git| !git.is_ambiguous) {
            if !is_add {
                return Err(refused("source can't be a git ref for COPY".to_owned()));
            }
            return self.git(text, &git, span, checksum);
        }
        if !text.starts_with("http://") && !text.starts_with("https://") {
            return Ok(CopySource::Path(text.to_owned()));
        }
        if !is_add {
            return Err(refused("source can't be a URL for COPY".to_owned())
                .with_hint("use `ADD`, which fetches URLs"));
        }
        let checksum = checksum.map(|text| {
            text.parse::<Digest>().map_err(|error| {
                let span = self.checksum.map_or(span, |word| word.span);
                Error::refused(error.to_string(), span).with_hint("write it as `sha256:<hex>`")
            })
        });
        let url = text.to_owned();
        Ok(CopySource::Remote(Remote::Http { url, checksum: checksum.transpose()? }))
    }

    fn git(
        &self,
        url: &str,
        git: &GitReference,
        span: Span,
        checksum: Option<&str>,
    ) -> Result<CopySource, Error> {
        if let (Some(flag), Some(query)) = (self.keep_git_dir, git.keep_git_dir)
            && flag != query
        {
            return Err(Error::refused("inconsistent keep-git-dir configuration", span));
        }
        if let (Some(flag), Some(query)) = (checksum, git.checksum.as_deref())
            && flag != query
        {
            return Err(Error::refused(format!("checksum mismatch {flag:?} != {query:?}"), span));
        }
        Ok(CopySource::Remote(Remote::Git {
            url: url.to_owned(),
            checksum: checksum.or(git.checksum.as_deref()).map(str::to_owned),
            keep_git_dir: git.keep_git_dir.or(self.keep_git_dir).unwrap_or(false),
        }))
    }
}

fn inline(state: &State, heredoc: &Heredoc) -> Result<CopySource, Error> {
    let name = heredoc.name.clone();
    if name.contains('/') || matches!(name.as_str(), "." | "..") {
        return Err(Error::refused(format!("`{name}` is no name for a file"), heredoc.span));
    }
    Ok(CopySource::Inline { name, content: state.expand_heredoc(heredoc)? })
}
