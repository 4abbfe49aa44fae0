// Read by MathJax and by require.js when they start.

window.MathJax = {
  tex: { inlineMath: [["$", "$"]], displayMath: [["$$", "$$"]] },
  chtml: { matchFontHeight: false, scale: 1.1 }, // what the match gives depends on the reader's font
  options: { enableMenu: false }, // its entries load parts of MathJax that are not on this site
};

window.require = { baseUrl: "lib" };
