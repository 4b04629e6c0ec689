// Why a text ended, in words.

export const ENDS = {
  stop: "The model ended the text.",
  length: "The number of new tokens was reached.",
  context: "The context is full: no more tokens fit.",
  timeout: "The server's time for a request was over.",
};
