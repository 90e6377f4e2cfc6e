/* Sentences of errors, and pieces of them: NST_TEXT("the flash is full").
 *
 * A small device keeps them out of its flash: built with NST_TEXTS_APART (an address that is no
 * memory), they lie in the section .nst_texts of its ELF file, which is not loaded. A message then
 * says where the sentence begins there, "\xC2\xA7" "412;", and whoever has the file puts it in:
 * devices/nestling_devices/sentences.py. */
#ifndef NESTLING_CORE_SENTENCE_H
#define NESTLING_CORE_SENTENCE_H

#ifdef NST_TEXTS_APART
#define NST_TEXT(sentence)                                                                  \
    __extension__({                                                                         \
        static const char nst_sentence[] __attribute__((section(".nst_texts"))) = sentence; \
        nst_sentence;                                                                       \
    })
#else
#define NST_TEXT(sentence) sentence
#endif

#endif
